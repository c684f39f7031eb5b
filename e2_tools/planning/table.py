# SPDX-License-Identifier: Apache-2.0
"""Plans as text."""

from collections.abc import Sequence
from typing import Any

from e2_common.training_time.gpus import Gpu
from e2_tools.planning.memory import PARTS, Stage
from e2_tools.planning.plan import ASSUMED_MFU, Plan

GIB = 2**30


def gib(size: float) -> str:
    """Bytes as GiB with one decimal."""
    return f"{size / GIB:.1f}"


def report(plan: Plan) -> str:
    """Everything about one plan."""
    layout = plan.run.layout
    batch = layout.micro_batch * layout.micro_batches * layout.data
    names = [f"stage {stage.number}" for stage in plan.stages]
    where = f"stage {plan.fullest.number} in the {plan.fullest.moment}"
    lines = [
        plan.title,
        f"{batch} windows of {layout.window:,} tokens an iteration, micro-batches of "
        f"{layout.micro_batch}, {layout.micro_batches} a rank; {plan.run.precision}",
        "",
        aligned_memory(plan.stages, names),
        "",
        verdict(plan.fullest.total, plan.gpu, where),
        *_speed(plan),
    ]
    return "\n".join(lines)


def aligned_memory(stages: Sequence[Stage], names: Sequence[str]) -> str:
    """Bytes by part, a column a stage, with the name of each; then the moments of an iteration."""
    head = ["GiB at its fullest", *names]
    rows = [
        [part, *(gib(stage.parts[part]) for stage in stages)]
        for part in PARTS
        if any(stage.parts[part] for stage in stages)
    ]
    rows.append(["total", *(gib(stage.total) for stage in stages)])
    for moment in dict.fromkeys(name for stage in stages for name in stage.moments):
        sums = (stage.moments.get(moment) for stage in stages)
        rows.append([f"in the {moment}", *("-" if size is None else gib(size) for size in sums)])
    if all(stage.in_flight is not None for stage in stages):
        rows.append(["micro-batches held", *(f"{stage.in_flight:g}" for stage in stages)])
    return aligned([head, *rows])


def verdict(need: int, gpu: Gpu, where: str) -> str:
    """Whether ``need`` bytes fit, in words; ``where`` and when they are needed."""
    there = gpu.memory
    if need <= there:
        return f"fits: {where}, {gib(need)} of {gib(there)} GiB, {gib(there - need)} free"
    return f"does not fit: {where}, {gib(need)} of {gib(there)} GiB, {gib(need - there)} too much"


def _speed(plan: Plan) -> list[str]:
    layout, sizes, step = plan.run.layout, plan.model.sizes, plan.step
    tokens = plan.iterations * layout.tokens
    causal, full = (sizes.flops(layout.window, flag) / 1e9 for flag in (True, False))
    origin = "given" if plan.mfu_given else f"estimated: {ASSUMED_MFU}"
    losses = {
        "recompute": step.recompute,
        "pipeline bubble": step.bubble,
        "tensor parallel": step.tensor,
        "between stages": step.pipeline,
        "data parallel": step.data,
    }
    share = ", ".join(
        f"{name} {value / step.compute:.0%}" for name, value in losses.items() if value
    )
    return [
        f"model FLOPs: {causal:.2f} G a token (causal attention), {full:.2f} G (full)",
        f"MFU: {plan.mfu:.1%} of {plan.gpu.peak / 1e12:.0f} TFLOP/s (causal; {plan.mfu_full:.1%} "
        f"counted full), {origin}",
        f"losses, of the compute: {share or 'none'}",
        f"speed: {plan.tokens_per_second:,.0f} tokens/s, "
        f"{plan.tokens_per_second / layout.world:,.0f} a GPU",
        f"run: {plan.iterations:,} iterations, {tokens / 1e9:.2f} G tokens, "
        f"{plan.hours:.1f} h, {plan.hours * layout.world:,.0f} GPU hours"
        + ("" if plan.cost is None else f", {plan.cost:,.0f} at {plan.price:g} a GPU hour"),
    ]


def ranking(plans: Sequence[Plan]) -> str:
    """The layouts that fit, a line each."""
    head = [
        "",
        "layout",
        "micro-batch",
        "recompute",
        "GiB",
        "free",
        "stage",
        "MFU",
        "tokens/s",
        "h",
    ]
    best = plans[0].step.total / plans[0].run.layout.tokens
    head.append("relative time")
    rows = []
    for number, plan in enumerate(plans, 1):
        layout = plan.run.layout
        rows.append(
            [
                str(number),
                str(layout),
                f"{layout.micro_batch} x {layout.micro_batches}",
                layout.recompute,
                gib(plan.fullest.total),
                gib(plan.gpu.memory - plan.fullest.total),
                str(plan.fullest.number),
                f"{plan.mfu:.1%}",
                f"{plan.tokens_per_second:,.0f}",
                f"{plan.hours:.1f}",
                f"{plan.step.total / layout.tokens / best:.2f}",
            ]
        )
    return aligned([head, *rows], left=(1, 3))


def by_window(plans: Sequence[Any]) -> str:
    """A line a window, as Markdown; speed and hours where they are planned."""
    timed = all(isinstance(plan, Plan) for plan in plans)
    lines = [
        "| window | GiB a GPU | activations, loss, workspace | fits |"
        + (" tokens/s | h |" if timed else ""),
        "| ---: | ---: | ---: | --- |" + (" ---: | ---: |" if timed else ""),
    ]
    for plan in plans:
        parts = plan.fullest.parts
        moving = sum(parts[part] for part in ("activations", "logits and loss", "workspace"))
        line = (
            f"| {plan.window:,} | {gib(plan.fullest.total)} | {gib(moving)} | "
            f"{'yes' if plan.fits else 'no'} |"
        )
        if timed:
            line += f" {plan.tokens_per_second:,.0f} | {plan.hours:.1f} |"
        lines.append(line)
    return "\n".join(lines)


def aligned(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> str:
    """Columns of equal width; those in ``left`` are set to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
