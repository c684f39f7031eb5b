# make demo    from an empty machine to the picture of perplexity by window (7 minutes where the
#              CPU is fast in bf16, 9 to 12 where it is not, after the installation)
# make demo-hf the same with its fine-tuning on transformers; goes on in the folder of make demo
# make demo-retrieval   the same for retrieval: four words told once, asked at up to 32 L
# make quick   under a minute: lint, the unit tests, and tests of commands that a change can break: what
#              differs from your upstream's merge base (without an upstream: from HEAD), SINCE=REF else.
#              Says which files it leaves to make test: worlds of ranks, whole scripts, what takes long
# make test    all fast tests          make test-slow   the slow ones, one after the other
#              WORKERS=N files at a time (2; each may start four processes of its own)
#              E2_TEST_ORDER=N the order of files that an earlier run has named; 0 the plain one
# make lint    ruff and codespell      make format    let ruff mend what it can
# make bench   what E2 adds to the time of a training step
SHELL := /bin/bash
PYTHON := .venv/bin/python
STAMP := .venv/.installed
WORKERS ?= 2

## A file stays on one worker, for its fixtures; in the order of tests/conftest.py, long ones first.
IN_PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help demo demo-hf demo-retrieval quick test test-slow bench lint format venv clean
help:
	@sed -n 's/^# //p' Makefile

venv: $(STAMP)

$(STAMP): constraints.txt constraints-lm-eval.txt pyproject.toml
	@bash tools/make_venv.sh .venv constraints.txt
	@$(PYTHON) -m pip install --disable-pip-version-check --quiet --no-deps -r constraints-lm-eval.txt
	@touch $@

demo: $(STAMP)
	@PYTHON=$(PYTHON) bash examples/quickstart/run.sh

demo-hf: $(STAMP)
	@PYTHON=$(PYTHON) bash examples/quickstart/on_transformers.sh

demo-retrieval: $(STAMP)
	@PYTHON=$(PYTHON) bash examples/retrieval/run.sh --seeds 1 --trials 20

quick: lint
	@files=$$($(PYTHON) -m tests.affected $(if $(SINCE),--since $(SINCE))) && \
		$(PYTHON) -m pytest -q -m "not slow" $(IN_PARALLEL) tests/unit $$files

test: $(STAMP)
	@$(PYTHON) -m pytest -m "not slow" --durations 10 --durations-min 5 $(IN_PARALLEL)

test-slow: $(STAMP)
	@$(PYTHON) -m pytest -m slow

bench: $(STAMP)
	@$(PYTHON) benchmarks/step_overhead.py

lint: $(STAMP)
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@git ls-files -z | xargs -0 .venv/bin/codespell

format: $(STAMP)
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

clean:
	rm -rf examples/quickstart/out .pytest_cache .ruff_cache .hypothesis
