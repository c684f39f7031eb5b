# SPDX-License-Identifier: Apache-2.0
"""Memory by training window: E2 at 4,096 tokens beside training at the window itself.

    python benchmarks/memory_by_window.py --output docs/images/memory_by_window.png

Everything is planned, nothing measured (``tools/plan_memory.py``); the crosses are the published
numbers of Figure 1 of arXiv 2401.06951. Prints the comparison with them as a Markdown table.
"""

from dataclasses import replace

from e2_common.outputs import OutputFile
from e2_common.training_time.gpus import GPUS
from e2_common.training_time.layout import Layout
from e2_tools.arguments import command_parser
from e2_tools.planning.models import MODELS
from e2_tools.planning.plan import Plan, make_plan
from e2_tools.planning.plots import draw_by_window
from e2_tools.planning.run import Run
from e2_tools.plotting import save_png

WINDOWS = (4096, 8192, 16384, 32768, 65536)
# Figure 1: GB, of Llama-2-7B with FlashAttention-2 and ZeRO-2; PI at 64k was out of memory.
PUBLISHED = {16384: 57.4e9, 32768: 68.8e9}
TEMPLATE = Run(Layout(data=8, recompute="full"), sharding="zero-2")
RECIPE = Run(Layout(tensor=2, data=8, sequence_parallel=True, micro_batches=2))


def plans(run: Run, windows: tuple[int, ...] = WINDOWS) -> list[Plan]:
    """A plan of Llama-2-7B for each window."""
    model = MODELS["llama2-7b"].padded(run.layout.tensor)
    runs = [replace(run, layout=replace(run.layout, window=window)) for window in windows]
    return [make_plan(model, each, GPUS["A100-80GB"], 30000) for each in runs]


def comparison(planned: list[Plan]) -> str:
    """Planned and published bytes, as Markdown."""
    lines = ["| window | planned GB | published GB | difference |", "| ---: | ---: | ---: | ---: |"]
    for plan in planned:
        size = plan.fullest.total / 1e9
        published = PUBLISHED.get(plan.run.layout.window)
        told = f"{published / 1e9:.1f}" if published else "-"
        away = f"{size - published / 1e9:+.1f}" if published else "-"
        lines.append(f"| {plan.run.layout.window:,} | {size:.1f} | {told} | {away} |")
    return "\n".join(lines)


def main() -> None:
    """Draw and compare."""
    parser = command_parser(__doc__)
    parser.add_argument("--output", type=OutputFile, required=True, metavar="FILE.png")
    args = parser.parse_args()
    recomputed = replace(RECIPE, layout=replace(RECIPE.layout, recompute="full"))
    e2 = plans(RECIPE, (4096,)) * len(WINDOWS)
    series = {
        "E2, any window: trained at 4k (TP 2 x DP 8)": [
            replace(plan, run=replace(plan.run, layout=replace(plan.run.layout, window=window)))
            for plan, window in zip(e2, WINDOWS, strict=True)
        ],
        "trained at the window (TP 2 x DP 8)": plans(RECIPE),
        "trained at the window, full recompute": plans(recomputed),
        "ZeRO-2 on 8 GPUs, full recompute, at the window": plans(TEMPLATE),
    }
    heading = "Llama-2-7B on A100-80GB: memory of the fullest GPU, planned"
    points = {"PI, ZeRO-2, published (Figure 1)": PUBLISHED}
    save_png(draw_by_window(series, points, heading, "window served (tokens)"), args.output)
    for world in (8, 16):
        layout = replace(TEMPLATE.layout, data=world)
        print(f"\nZeRO-2 on {world} x A100-80GB, full recompute:\n")
        print(comparison(plans(replace(TEMPLATE, layout=layout))))


if __name__ == "__main__":
    main()
