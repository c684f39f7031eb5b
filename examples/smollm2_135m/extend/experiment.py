# SPDX-License-Identifier: Apache-2.0
"""Extends a real small model by E2-LLM and compares: run.sh beside this file explains and calls it.

Every step is skipped when its output is there.
"""

import argparse
import sys
from pathlib import Path

from e2_common.errors import UserError, exit_on_user_error
from e2_common.json_file import read_json_object
from e2_common.outputs import make_parent
from e2_llm.window import base_window
from e2_tools.arguments import command_parser
from e2_tools.evaluation.arguments import AUTO_DTYPE
from e2_tools.evaluation.precision import DTYPES
from examples.smollm2_135m.extend.costs import Costs, hours_left
from examples.smollm2_135m.extend.plan import (
    ARMS,
    BASE,
    SPEEDS,
    Cell,
    arms_of,
    cells,
    columns_of,
)
from examples.smollm2_135m.extend.runner import Runner, refuse_a_second
from examples.smollm2_135m.extend.settings import SETTINGS, dtype_of, keep_settings
from examples.smollm2_135m.extend.step import Step, in_turn
from examples.smollm2_135m.extend.tables import write_tables

TESTS = ("perplexity", "noise", "book", "multikey")
COMMANDS = {"perplexity": "perplexity", "multikey": "ruler"}  # of other tests: needle
# Before the model is there.
SMOLLM2 = {"max_position_embeddings": 8192, "hidden_size": 576, "intermediate_size": 1536}
SAVE_SECONDS = 900  # of training, between checkpoints


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line; run.sh has the defaults."""
    parser = command_parser(__doc__)
    for name in ("out", "model", "texts"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("arms", "columns", "windows", "tests", "depths"):
        parser.add_argument(f"--{name}", required=True, help="as one word")
    for name in ("tokens", "books", "trials", "seq-length", "batch", "max-scale", "ranks", "jobs"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--micro-batch", type=int, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--dtype", choices=(AUTO_DTYPE, *DTYPES), required=True)
    parser.add_argument("--dry-run", action="store_true")
    return parser


class Experiment:
    """The steps of a command line.

    Args:
        args: of :func:`build_parser`.

    Raises:
        UserError: of a list of names that has an unknown one.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, args.out
        self.arms = arms_of(args.arms)
        self.columns = columns_of(args.columns, self.arms)
        self.tests = list(dict.fromkeys(args.tests.split()))
        for test in self.tests:
            if test not in TESTS:
                raise UserError(f"--tests {test}: choose from {' '.join(TESTS)}")
        self.speed = SPEEDS[args.device]
        self.iterations = -(-args.tokens // (args.batch * args.seq_length))
        path = args.model / "config.json"
        config = read_json_object(path, "--model") if path.exists() else SMOLLM2
        self.base_window = base_window(config)
        if args.dtype == AUTO_DTYPE:
            args.dtype = dtype_of(args.out / SETTINGS, config, args.device)
        self.cells = list(
            cells(
                self.columns,
                list(dict.fromkeys(map(int, args.windows.split()))),
                self.tests,
                args.trials,
                self.base_window,
            )
        )

    def settings(self) -> dict[str, object]:
        """What may not change between two runs in one folder; everything else may grow."""
        names = ("tokens", "seq_length", "batch", "max_scale", "dtype")
        return {name: getattr(self.args, name) for name in names} | {
            name: str(getattr(self.args, name).resolve()) for name in ("model", "texts")
        }

    def preparation(self) -> list[list[Step]]:
        """Model and texts, then both converted."""
        args, out, here = self.args, self.out, "examples/smollm2_135m"
        texts = [args.texts / name for name in ("train.jsonl", "held_out.jsonl", "haystack.txt")]
        fetched = [
            self._step(
                "model", [f"{here}/get_model.py", "--save", args.model],
                lambda: (args.model / "config.json").exists(), 60,
            ),
            self._step(
                "texts", [f"{here}/extend/texts.py", "--output", args.texts],
                lambda: all(path.exists() for path in texts), 30,
            ),
        ]  # fmt: skip
        converted = [
            self._step(
                "conversion",
                ["tools/convert_hf_to_megatron.py", "--hf-model", args.model, "--save", out / BASE,
                 "--dtype", args.dtype],
                (out / BASE).exists,
            ),
            self._step(
                "tokenizing",
                ["tools/preprocess_data.py", "--input", texts[0], "--output-prefix", out / "train",
                 "--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", args.model,
                 "--append-eod"],
                (out / "train_text_document.idx").exists,
            ),
        ]  # fmt: skip
        return [fetched, converted]

    def _step(self, name: str, command: list[object], done, seconds: float = 30.0) -> Step:
        return Step(name, "preparation", [sys.executable, *map(str, command)], done, seconds)

    def training(self, arm: str) -> Step:
        """Train an arm."""
        args, folder = self.args, self.out / arm
        tokens = self.iterations * args.batch * args.seq_length
        speed = self.speed.tokens_a_second
        interval = max(1, round(SAVE_SECONDS * speed * args.ranks / (args.batch * args.seq_length)))
        command = [
            *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", args.ranks),
            *("--signals-to-handle", "SIGINT,SIGHUP,SIGQUIT", "pretrain_e2.py"),
            *("--use-checkpoint-args", "--pretrained-checkpoint", self.out / BASE),
            *("--load", folder, "--save", folder, "--ckpt-format", "torch_dist"),
            *("--save-interval", interval, "--save-retain-interval", interval * 10**6),
            *("--exit-signal-handler", "--load-newest-whole", "--use-distributed-optimizer"),
            *("--train-data-path", self.out / "train_text_document", "--eval-iters", 0),
            *("--data-cache-path", self.out / "cache" / arm, "--log-interval", 1),
            *("--tensorboard-dir", self.out / "tensorboard" / arm, "--seed", 1234),
            *("--seq-length", args.seq_length, "--micro-batch-size", args.micro_batch),
            *("--global-batch-size", args.batch, "--train-iters", self.iterations),
            *("--lr", "1e-4", "--min-lr", "1e-5", "--lr-decay-style", "cosine"),
            *("--lr-warmup-iters", max(1, self.iterations // 20)),
            *("--adam-beta1", 0.9, "--adam-beta2", 0.95, "--weight-decay", 0, "--clip-grad", 1.0),
            *(["--bf16"] if args.dtype == "bf16" else []),
            *ARMS[arm],
        ]
        if arm != "control":
            command += ["--e2-max-scale", args.max_scale, "--e2-draw-per", "sample"]
        latest = folder / "latest_checkpointed_iteration.txt"
        return Step(
            f"train {arm}", f"training {arm}", [sys.executable, *map(str, command)],
            lambda: latest.exists() and latest.read_text().strip() == str(self.iterations),
            tokens / speed, args.ranks, saves=True,
        )  # fmt: skip

    def export(self, arm: str) -> Step:
        """Export a trained arm."""
        exported = self._model(arm)
        command = ["tools/convert_megatron_to_hf.py", "--load", self.out / arm, "--save", exported]
        return self._step(
            f"export {arm}", [*command, "--hf-model", self.args.model], exported.exists
        )

    def evaluations(self) -> list[Step]:
        """Ask the cells: one by one on CPUs; on a GPU, a process for a column's windows of a test.

        A process is started in a moment beside what a CPU takes for a cell, and a long time beside
        what a GPU does.
        """
        if self.args.device == "cpu":
            return [self.evaluation(cell) for cell in self.cells]
        groups: dict[tuple[str, str], list[Step]] = {}
        for cell in self.cells:
            key = (cell.test, cell.column.name)
            groups.setdefault(key, []).append(self.evaluation(cell))
        return [in_turn(f"{test}-{name}", steps) for (test, name), steps in groups.items()]

    def evaluation(self, cell: Cell) -> Step:
        """Ask a cell."""
        args, path, questions = self.args, self.path(cell), len(self.args.depths.split())
        command = [
            f"tools/evaluate_{COMMANDS.get(cell.test, 'needle')}.py",
            *("--model", self._model(cell.column.model), "--label", cell.column.label),
            *("--windows", cell.window, "--output", path, "--resume"),
            *("--device", args.device, "--dtype", args.dtype),
            *cell.column.serving,
        ]
        if cell.test == "perplexity":
            # A document is cut to one window; its last quarter is what has its full context.
            command += [
                *("--data", args.texts / "held_out.jsonl", "--stride", cell.window // 4),
                *("--max-document-tokens", cell.window, "--max-documents", args.books),
            ]
            kind = f"perplexity {cell.window}"
        elif cell.test == "multikey":
            questions *= args.trials
            command += ["--tasks", "niah_multikey_1", "--trials", questions]
            command += ["--haystack", args.texts / "haystack.txt", "--sentences", "marks"]
            kind = f"ruler {cell.test} {cell.window}"
        else:
            haystack = "noise" if cell.test == "noise" else args.texts / "haystack.txt"
            command += ["--haystack", haystack, "--trials", 1, "--seed", cell.trial]
            command += ["--depths", *args.depths.split()]
            kind = f"needle {cell.test} {cell.window}"
        return Step(
            cell.name, kind, [sys.executable, *map(str, command)], lambda: self.answered(cell),
            self.speed.seconds_of(cell, args.books, questions),
        )  # fmt: skip

    def path(self, cell: Cell) -> Path:
        """The result file of a cell."""
        books = f"-{self.args.books}" if cell.test == "perplexity" else ""
        return self.out / "results" / f"{cell.name}{books}.json"

    def answered(self, cell: Cell) -> bool:
        """Whether a cell's file has all that is asked; a broken one is told when it is read."""
        path = self.path(cell)
        if not path.exists():
            return False
        rows = read_json_object(path, "remove it")["results"]
        if cell.test == "perplexity":
            return bool(rows)
        if cell.test == "multikey":
            asked = len(self.args.depths.split()) * self.args.trials
            return any(row["trials"] >= asked for row in rows)
        return {row["depth"] for row in rows} >= set(map(float, self.args.depths.split()))

    def _model(self, name: str) -> Path:
        return self.args.model if name == BASE else self.out / f"{name}-hf"

    def steps(self) -> list[list[Step]]:
        """All steps, in stages one after the other; those of one may run side by side."""
        trained = [self.training(arm) for arm in self.arms]
        exported = [self.export(arm) for arm in self.arms]
        return [*self.preparation(), trained, exported, self.evaluations()]

    def write_tables(self) -> str:
        """See :func:`examples.smollm2_135m.extend.tables.write_tables`."""
        files = {cell: self.path(cell) for cell in self.cells if self.answered(cell)}
        return write_tables(
            self.out, self.columns, self.cells, files, self.base_window, self.args.seq_length
        )


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Run what is not there yet, then write the tables."""
    args = build_parser().parse_args(arguments)
    experiment = Experiment(args)
    stages = experiment.steps()
    plan = [step for stage in stages for step in stage]
    if args.dry_run:
        show_plan(plan, Costs(args.out / "costs.jsonl"), args.jobs)
        return
    from e2_tools.evaluation.model import choose_device  # transformers is slow to import

    choose_device(args.device)
    make_parent(args.out / SETTINGS)
    keep_settings(args.out / SETTINGS, experiment.settings())
    with refuse_a_second(args.out):
        runner = Runner(args.out, plan, args.jobs)
        try:
            for stage in stages:
                runner.run(stage)
        finally:
            if any(map(experiment.answered, experiment.cells)):
                print(f"\n{experiment.write_tables()}\nalso in {args.out / 'tables.md'}")


def show_plan(plan: list[Step], costs: Costs, jobs: int) -> None:
    """Print what is left to do, with its estimated hours, by kind."""
    left = [step for step in plan if not step.done()]
    for kind in dict.fromkeys(step.kind for step in left):
        steps = [step for step in left if step.kind == kind]
        print(f"{kind}: {len(steps)} steps, about {hours_left(steps, costs, jobs):.2f} hours")
    print(f"all that is left: {len(left)} steps, about {hours_left(left, costs, jobs):.1f} hours")


if __name__ == "__main__":
    main()
