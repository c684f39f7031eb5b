# SPDX-License-Identifier: Apache-2.0
"""A training in a process of its own that takes a step whenever it is told to.

    python -m benchmarks.cpu.paced {megatron,e2_hf,trainer,plain,litgpt,product} LOG ARGUMENT...

A line on standard input asks for a step; the answer is its seconds and loss as a line of JSON. So
the steps of several trainings, each of its own program, alternate on one machine. What the program
says goes into LOG.
"""

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import torch

PRODUCT = 2048  # rows and columns of the matrices whose product is the peak


class Pace:
    """Waits for the word, times what follows.

    Args:
        answers: where they are written.
    """

    def __init__(self, answers: TextIO) -> None:
        self.answers, self.started = answers, 0.0

    def wait(self) -> None:
        """Wait until a step is asked for; end the process if none is any more."""
        if not sys.stdin.readline():
            os._exit(0)
        self.started = time.perf_counter()

    def done(self, loss: float | None) -> None:
        """Tell what the step took."""
        seconds = time.perf_counter() - self.started
        print(json.dumps({"seconds": seconds, "loss": loss}), file=self.answers, flush=True)

    def around(self, step: Callable[..., Any], loss: Callable[[Any], float]) -> Callable[..., Any]:
        """Return the step, paced; ``loss`` reads its result."""

        @functools.wraps(step)
        def paced(*args: Any, **kwargs: Any) -> Any:
            self.wait()
            result = step(*args, **kwargs)
            self.done(loss(result))
            return result

        return paced


def megatron(pace: Pace, words: list[str]) -> None:
    """``pretrain_e2.py``."""
    import pretrain_e2
    from megatron_patches.runtime.prepare import prepare

    pretrain_e2.as_single_process()
    on_cpu = prepare()
    from megatron.training import training

    from megatron_patches.runtime.replace import replace

    def loss(result: Any) -> float:
        return float(result[0]["lm loss"])

    replace(training, "train_step", pace.around(training.train_step, loss))
    sys.argv[1:] = words
    pretrain_e2.run(on_cpu)


def e2_hf(pace: Pace, words: list[str]) -> None:
    """``train_e2_hf.py``."""
    from e2_tools.tuning.arguments import build_parser
    from e2_tools.tuning.run import run

    _pace_trainers(pace)
    run(build_parser().parse_args(words))


def trainer(pace: Pace, words: list[str]) -> None:
    """``transformers.Trainer`` as it comes, without anything of ours but the windows."""
    from transformers import Trainer

    from e2_tools.tuning.trainer import training_arguments

    args, windows = _read(words)
    _pace_trainers(pace)
    Trainer(_model(args), training_arguments(args), train_dataset=windows).train()


def plain(pace: Pace, words: list[str]) -> None:
    """transformers' model in a loop of a few lines, with fp32 master weights in bf16."""
    args, windows = _read(words)
    model = _model(args)
    _loop(pace, args, model, windows, lambda **window: model(**window).loss)


def litgpt(pace: Pace, words: list[str]) -> None:
    """litgpt's model in the same loop."""
    from benchmarks.cpu.litgpt_model import LitGPT

    args, windows = _read(words)
    model = LitGPT(Path(args.model)).train()

    def loss(**window: torch.Tensor) -> torch.Tensor:
        return model(window["input_ids"], window["shift_labels"])

    _loop(pace, args, model, windows, loss)


def _loop(
    pace: Pace,
    args: argparse.Namespace,
    model: torch.nn.Module,
    windows: Any,
    loss_of: Callable[..., torch.Tensor],
) -> None:
    from benchmarks.gpu.transformers_run import MasterAdamW

    model.to(torch.bfloat16 if args.bf16 else torch.float32)
    optimizer = MasterAdamW(list(model.parameters()), args.lr)
    samples, micro_batches = args.micro_batch_size, args.global_batch_size // args.micro_batch_size
    batches = torch.utils.data.DataLoader(windows, samples)

    def step(taken: Any) -> float:
        total = 0.0
        for _ in range(micro_batches):
            loss = loss_of(**next(taken))
            loss.backward()
            optimizer.accumulate()
            total += loss.item()
        optimizer.step(micro_batches)
        return total / micro_batches

    paced, taken = pace.around(step, float), iter(batches)
    while True:
        paced(taken)


def product(pace: Pace, words: list[str]) -> None:
    """A matrix product: what the machine can do at best."""
    dtype = torch.bfloat16 if "--bf16" in words else torch.float32
    left, right = (torch.randn(PRODUCT, PRODUCT).to(dtype) for _ in range(2))
    paced = pace.around(lambda: left @ right, lambda _: 0.0)
    while True:
        paced()


def _model(args: argparse.Namespace) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).train()


def _read(words: list[str]) -> tuple[argparse.Namespace, Any]:
    """Arguments of train_e2_hf.py and its windows, for a training without E2."""
    from e2_llm.arguments import config_from_args
    from e2_tools.tuning.arguments import build_parser
    from e2_tools.tuning.data import open_data
    from e2_tools.tuning.model import source_of

    args = build_parser().parse_args(words)
    source = source_of(args)
    args.max_position_embeddings = source.rope.window
    args.padded_vocab_size = source.sizes.vocab
    data = open_data(args, config_from_args(args), None)
    count = args.train_iters * args.global_batch_size
    return args, _Plain(data.windows(args.seq_length, count, 0)[0])


class _Plain(torch.utils.data.Dataset):
    """Windows as transformers' models take them; their own shift leaves the last label out."""

    def __init__(self, windows: Any) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        window = self.windows[index]
        return {"input_ids": window["input_ids"], "shift_labels": window["shift_labels"],
                "labels": window["shift_labels"]}  # fmt: skip


def _pace_trainers(pace: Pace) -> None:
    from transformers import Trainer as Base
    from transformers import TrainerCallback, trainer

    sums: list[float] = []

    class Paced(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            sums.clear()
            pace.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            pace.done(sum(sums))

    before = Base.training_step

    def training_step(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = before(self, *args, **kwargs)  # of a micro-batch, its share of the mean
        sums.append(float(loss))
        return loss

    Base.training_step = training_step
    trainer.DEFAULT_CALLBACKS.append(Paced)


def main() -> None:
    """Train as the command line says."""
    kind, log, *words = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    with open(log, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    kinds = {each.__name__: each for each in (megatron, e2_hf, trainer, plain, litgpt, product)}
    kinds[kind](Pace(answers), words)


if __name__ == "__main__":
    main()
