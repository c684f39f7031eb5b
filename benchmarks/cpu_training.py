# SPDX-License-Identifier: Apache-2.0
"""How fast a CPU trains: ours on Megatron and on transformers beside transformers alone.

    python benchmarks/cpu_training.py [--preset smollm2-135m] [--steps 10] [--output FILE.json]

Every variant is a process of its own with the same weights and windows; they take steps in turn, in
an order drawn for every round, so that the machine's moods hit all alike. One more process times a
matrix product: the share of that peak is what a step makes of the machine. litgpt comes beside them
where it is installed. Needs about 4 GB of memory a variant at SmolLM2's shape.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cpu.table import WARM_UP, prices, sentence, summary, table
from benchmarks.processes import measured
from benchmarks.step_overhead import interleaved
from e2_common.errors import UserError, exit_on_user_error, last_line
from e2_common.model_sizes import ModelSizes
from e2_common.outputs import OutputFile, check_output
from e2_common.progress import progress_bar
from e2_common.provenance import command_line, commit, processor, versions
from e2_tools.arguments import check_counts, command_parser
from e2_tools.evaluation.result_file import write_results
from e2_tools.planning.models import MODELS, Model

SCHEMA = "e2-llm/cpu-training/1"
ROOT = Path(__file__).resolve().parents[1]
# Model, R, windows at once, windows a step.
PRESETS = {
    "smollm2-135m": (MODELS["smollm2-135m"], 512, 1, 2),
    "demo": (Model("demo", ModelSizes(4, 192, 512, 6, 6, 32, 1024, 1024, False), 128), 128, 8, 16),
    "tiny": (Model("tiny", ModelSizes(2, 64, 160, 4, 4, 16, 256, 256, False), 64), 64, 1, 2),
}  # fmt: skip
E2 = ["--position-method", "e2", "--e2-max-scale", "8", "--e2-draw-per", "sample"]
NONE = ["--position-method", "none"]
# Name -> kind of benchmarks/cpu/paced.py, arguments; the first is what ratios are of.
VARIANTS = {
    "transformers, plain loop": ("plain", NONE),
    "transformers, Trainer": ("trainer", NONE),
    "litgpt, plain loop": ("litgpt", NONE),
    "ours on transformers, E2": ("e2_hf", E2),
    "ours on Megatron, E2": ("megatron", E2),
    "ours on Megatron, fixed RoPE": ("megatron", NONE),
}


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="smollm2-135m", help="shape (default: %(default)s)")
    add("--steps", type=int, default=10, help="counted of each variant (default: %(default)s)")
    add("--dtypes", nargs="+", choices=("bf16", "fp32"), default=["bf16", "fp32"])
    add("--variants", nargs="+", choices=sorted({kind for kind, _ in VARIANTS.values()}))
    add("--threads", type=int, default=1, help="of each process (default: %(default)s)")
    add("--seed", type=int, default=1234, help="of weights, data, draws and order")
    add("--output", type=OutputFile, metavar="FILE.json", help="also write what was measured")
    return parser


@exit_on_user_error
def main() -> None:
    """Measure, tell."""
    options = build_parser().parse_args()
    check_counts(options, ["steps", "threads", "seed"])
    if options.output:
        check_output(options.output)
    names = chosen(options.variants)
    model, window, samples, batch = PRESETS[options.preset]
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "command": command_line(),
        "commit": commit(),
        "versions": versions(("torch", "megatron-core", "transformers")),
        "hardware": {"processor": processor(), "threads": options.threads},
        "preset": options.preset,
        "window": window,
        "windows_a_step": batch,
        "seed": options.seed,
        "rows": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_inputs(folder, model, window, batch * (WARM_UP + options.steps + 2), options.seed)
        for dtype in options.dtypes:
            words = _arguments(folder, window, samples, batch, options)
            rows = measure(folder, names, words, dtype, options)
            tokens, flops = batch * window, model.sizes.flops(window, causal=True)
            result["rows"] += summary(rows, dtype, tokens, flops, options.seed)
    result["prices"] = prices(result["rows"], options.seed)
    print(table(result["rows"]))
    for price in result["prices"]:
        print(sentence(price))
    if options.output:
        write_results(options.output, result)


def chosen(kinds: list[str] | None) -> list[str]:
    """Return the variants of these kinds; without kinds all that can run.

    Raises:
        UserError: litgpt is asked for and not installed.
    """
    there = find_spec("litgpt") is not None
    if kinds and "litgpt" in kinds and not there:
        raise UserError("--variants litgpt: it is not installed; pip install litgpt")
    return [
        name
        for name, (kind, _) in VARIANTS.items()
        if (kind in kinds if kinds else there or kind != "litgpt")
    ]


def make_inputs(folder: Path, model: Model, window: int, windows: int, seed: int) -> None:
    """Write random weights, as a Hugging Face folder and as a base of Megatron's, and a dataset."""
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(**model.sizes.llama_config(model.window))
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    builder = IndexedDatasetBuilder(str(folder / "data.bin"), dtype=np.int32)
    generator = np.random.default_rng(seed)
    for _ in range(windows + 1):
        builder.add_item(torch.from_numpy(generator.integers(model.sizes.vocab, size=window + 1)))
        builder.end_document()
    builder.finalize(str(folder / "data.idx"))
    converter = str(ROOT / "tools/convert_hf_to_megatron.py")
    command = [sys.executable, converter, "--hf-model", folder / "model"]
    measured(list(map(str, [*command, "--save", folder / "base", "--dtype", "fp32"])))


def _arguments(
    folder: Path, window: int, samples: int, batch: int, options: argparse.Namespace
) -> dict[str, list[str]]:
    """Kind of process -> its arguments but for precision and positions."""
    steps = WARM_UP + options.steps + 1
    common = f"""--seq-length {window} --micro-batch-size {samples} --global-batch-size {batch}
        --train-iters {steps} --lr 1e-5 --lr-decay-style constant --split 100,0,0 --eval-iters 0
        --weight-decay 0 --adam-beta1 0.9 --adam-beta2 0.95 --seed {options.seed}"""
    data, vocabulary = folder / "data", PRESETS[options.preset][0].sizes.vocab
    megatron = f"""{common} --use-checkpoint-args --pretrained-checkpoint {folder}/base
        --data-path {data} --data-cache-path {folder}/CACHE --num-workers 0 --log-interval 1000
        --tokenizer-type NullTokenizer --vocab-size {vocabulary}
        --make-vocab-size-divisible-by 1"""
    hf = f"""{common} --model {folder}/model --data-path {data} --data-cache-path {folder}/CACHE
        --save {folder}/CACHE/saved --checkpoint-dir {folder}/CACHE/checkpoints
        --save-interval 1000000 --log-interval 1000"""
    return {
        "megatron": megatron.split(),
        **dict.fromkeys(("e2_hf", "trainer", "plain", "litgpt", "product"), hf.split()),
    }


def measure(
    folder: Path,
    names: list[str],
    words: dict[str, list[str]],
    dtype: str,
    options: argparse.Namespace,
) -> dict[str, list[dict[str, float]]]:
    """Let every variant, and the matrix product, take its steps in turn.

    Args:
        folder: of the inputs, and for logs.
        names: of variants.
        words: kind -> arguments.
        dtype: bf16 or fp32.
        options: of :func:`build_parser`.

    Returns:
        Name -> ``seconds`` and ``loss`` of every step, the warm-up first; the product is ``""``.

    Raises:
        UserError: a process ended.
    """
    precision = ["--bf16"] if dtype == "bf16" else []
    kinds = {name: VARIANTS[name] for name in names} | {"": ("product", [])}
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    with contextlib.ExitStack() as stack:
        processes = {}
        for index, (name, (kind, positions)) in enumerate(kinds.items()):
            cache = folder / f"{dtype}{index}"
            cache.mkdir()
            mine = [word.replace(f"{folder}/CACHE", str(cache)) for word in words[kind]]
            arguments = [kind, str(cache / "log"), *mine, *positions, *precision]
            processes[name] = stack.enter_context(_process(arguments, options.threads)), cache
        order = interleaved(len(kinds), WARM_UP + options.steps, options.seed)
        for index in progress_bar(len(order), "step", dtype, iterable=order):
            name = list(kinds)[index]
            process, cache = processes[name]
            answers[name].append(_step(process, name, cache / "log"))
    return answers


@contextlib.contextmanager
def _process(arguments: list[str], threads: int) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cpu.paced", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _step(process: subprocess.Popen[str], name: str, log: Path) -> dict[str, float]:
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write("\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        said = last_line(log.read_text(encoding="utf-8", errors="replace"))
        raise UserError(f"{name or 'the product'} ended: {said}")
    return json.loads(line)


if __name__ == "__main__":
    main()
