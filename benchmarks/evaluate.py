# SPDX-License-Identifier: Apache-2.0
"""Sliding-window perplexity beside the loop that transformers' documentation shows for it.

    python benchmarks/evaluate.py [--layers 2 4 30] [--window 4096] [--stride 256]

The model is random, of SmolLM2-135M's shape (hidden size 576, vocabulary 49,152) with so many of
its 30 layers; fp32. Both score the same document, in turn; the numbers have to be equal. Times are
CPU times on a CPU, where other processes count little in them (OMP_NUM_THREADS=1 is best), else
wall-clock times. Peak memory is what a pass adds to the process (Linux) or to the GPU's memory.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e2_common.errors import UserError, exit_on_user_error
from e2_common.files import atomic_file
from e2_common.json_file import write_json
from e2_common.outputs import OutputFile
from e2_common.progress import progress_bar
from e2_tools.arguments import command_parser, count_argument
from e2_tools.evaluation.perplexity.protocols import PROTOCOLS
from e2_tools.evaluation.perplexity.windows import check_windows, sliding_windows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SCHEMA = "e2-llm/evaluation-benchmark/1"
NAMES = ("loop", "evaluate_perplexity.py")
TOLERANCE = 1e-6  # relative, of the mean nll: fp32 in another order


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--layers", type=count_argument, nargs="+", default=[2, 4, 30], metavar="N")
    add("--hidden-size", type=count_argument, default=576, metavar="N", help="a multiple of 192")
    add("--vocabulary", type=count_argument, default=49152, metavar="N")
    add("--window", type=count_argument, default=4096, metavar="W")
    add("--stride", type=count_argument, default=256, metavar="S")
    add("--slides", type=count_argument, default=12, metavar="N", help="windows (default: 12)")
    add("--rounds", type=count_argument, default=2, metavar="N", help="of both in turn")
    add("--device", default="auto", help="(default: auto)")
    add("--output", type=OutputFile, metavar="FILE.json")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Time both on every shape; print a Markdown table."""
    args = build_parser().parse_args(arguments)
    check_windows([args.window], args.stride)
    if args.hidden_size % 192:
        raise UserError(f"--hidden-size {args.hidden_size}: has to be a multiple of 192")
    from e2_common.provenance import provenance
    from e2_tools.evaluation.model import choose_device

    device = choose_device(args.device)
    rows = [measure(args, layers, device) for layers in args.layers]
    if args.output:
        settings = {"window": args.window, "stride": args.stride, "windows": args.slides}
        content = {"schema": SCHEMA, **settings, "results": rows, "provenance": provenance()}
        with atomic_file(args.output) as temporary:
            write_json(temporary, content)
    print(table(rows))


def measure(args: argparse.Namespace, layers: int, device: "torch.device") -> dict[str, Any]:
    """Score one document by both, in turn, after a small one to warm up.

    Raises:
        UserError: their numbers differ.
    """
    import numpy as np

    from e2_tools.evaluation.perplexity.scoring import Material, evaluate_jobs
    from e2_tools.evaluation.perplexity.streams import streams_of

    model = make_model(args, layers, device)
    tokens = args.window + (args.slides - 1) * args.stride
    document = np.random.default_rng(0).integers(args.vocabulary, size=tokens, dtype=np.int32)

    def ours(document: np.ndarray) -> float:
        streams = streams_of([document], joined=False)
        material = Material(PROTOCOLS["press"], streams, [], 1)
        jobs = material.jobs(args.window, args.stride)
        return evaluate_jobs(model, material, jobs, args.window)["nll"]

    def loop(document: np.ndarray) -> float:
        return loop_of_the_documentation(model, document, args.window, args.stride)

    ways = dict(zip(NAMES, (loop, ours), strict=True))
    for way in ways.values():
        way(document[: args.window // 8])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    memory: dict[str, list[int]] = {name: [] for name in ways}
    nll: dict[str, float] = {}
    with progress_bar(2 * args.rounds, "document", f"{layers} layers") as bar:
        for number in range(args.rounds):
            for name in NAMES[:: 1 if number % 2 else -1]:
                started = time.perf_counter()
                nll[name], spent, peak = timed(lambda name=name: ways[name](document), device)
                wall[name].append(time.perf_counter() - started)
                seconds[name].append(spent)
                memory[name].append(peak)
                bar.update()
    difference = abs(nll[NAMES[0]] / nll[NAMES[1]] - 1)
    if not difference < TOLERANCE:
        raise UserError(f"the means differ: {nll}")
    return {
        "layers": layers,
        "hidden_size": args.hidden_size,
        "vocabulary": args.vocabulary,
        "parameters": model.num_parameters(),
        "tokens": tokens,
        "seconds": seconds,
        "wall_seconds": wall,
        "peak_bytes": {name: max(peaks) for name, peaks in memory.items()},
        "nll": nll,
        "relative_difference": difference,
        "ratio": statistics.median(seconds[NAMES[0]]) / statistics.median(seconds[NAMES[1]]),
    }


def make_model(args: argparse.Namespace, layers: int, device: "torch.device") -> "PreTrainedModel":
    """Make a random Llama of SmolLM2-135M's proportions."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    hidden = args.hidden_size
    config = LlamaConfig(
        vocab_size=args.vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 192,
        max_position_embeddings=args.window,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).to(device).eval()


def loop_of_the_documentation(
    model: "PreTrainedModel", document: Any, window: int, stride: int
) -> float:
    """Return the mean nll by the loop of transformers' "Perplexity of fixed-length models".

    One window at a time; tokens that were scored before have the label -100.
    """
    import torch

    total, scored = 0.0, 0
    for begin, first_scored, end in sliding_windows(len(document), window, stride):
        ids = torch.from_numpy(document[begin:end]).long()[None].to(model.device)
        labels = ids.clone()
        labels[:, : first_scored - begin] = -100
        with torch.no_grad():
            loss = model(ids, labels=labels, use_cache=False).loss
        total += loss.double().item() * (end - first_scored)
        scored += end - first_scored
    return total / scored


def timed(run: Callable[[], float], device: "torch.device") -> tuple[float, float, int]:
    """Return what ``run`` returns, its seconds and the bytes of memory it added at its peak."""
    import torch

    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = resident("VmRSS")
    clock = time.perf_counter if on_gpu else time.process_time
    started = clock()
    value = run()
    seconds = clock() - started  # the value is on the host: all work is done
    peak = torch.cuda.max_memory_allocated(device) if on_gpu else resident("VmHWM")
    return value, seconds, peak - before


def resident(field: str) -> int:
    """Return VmRSS or VmHWM, the resident memory of this process now or at its peak, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise UserError(f"/proc/self/status: has no {field}; peak memory needs Linux")


def table(rows: list[dict[str, Any]]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| layers | parameters | loop | here | ratio | peak memory, loop | here |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        loop, here = (statistics.median(row["seconds"][name]) for name in NAMES)
        memory = [f"{row['peak_bytes'][name] / 2**20:,.0f} MiB" for name in NAMES]
        lines.append(
            f"| {row['layers']} | {row['parameters'] / 1e6:.1f} M | {loop:.2f} s | {here:.2f} s | "
            f"{row['ratio']:.2f} | {memory[0]} | {memory[1]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
