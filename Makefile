# make demo    from an empty machine to the picture of perplexity by window (about 13 minutes)
# make test    all fast tests          make test-slow   the slow ones, one after the other
#              WORKERS=N files at a time (2; each may start four processes of its own)
# make lint    ruff and codespell      make format    let ruff mend what it can
# make bench   what E2 adds to the time of a training step
SHELL := /bin/bash
PYTHON := .venv/bin/python
STAMP := .venv/.installed
WORKERS ?= 2

.PHONY: help demo test test-slow bench lint format venv clean
help:
	@sed -n 's/^# //p' Makefile

venv: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@bash tools/make_venv.sh .venv constraints.txt
	@touch $@

demo: $(STAMP)
	@PYTHON=$(PYTHON) bash examples/quickstart/run.sh

test: $(STAMP)
	@$(PYTHON) -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

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
