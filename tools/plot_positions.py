# SPDX-License-Identifier: Apache-2.0
"""Draw which positions a training window takes for several scales and offsets.

    python tools/plot_positions.py --output positions.png                  a row per drawn (g, t)
    python tools/plot_positions.py --draws 2:0 5:0 5:8192 --output p.png   these rows

Left, where the window lies among the tokens of the extended one; right, the positions that RoPE
sees. Both come from the code that training uses (compare Figures 2 and 3 of arXiv 2401.06951).
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from megatron_patches.errors import UserError, exit_on_user_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from megatron_patches.config import E2Config
    from megatron_patches.sampler import Draw

KEPT, BLOCK, ROOM = "#D55E00", "#0072B2", "#E8E8E8"


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="FILE.png")
    add("--base-window", type=int, default=4096, metavar="L", help="(default: %(default)s)")
    add("--train-window", type=int, metavar="R", help="(default: L)")
    add("--max-scale", type=int, default=20, metavar="G_MAX", help="(default: %(default)s)")
    add("--keep-first", type=int, default=4, metavar="N", help="(default: %(default)s)")
    add("--draws", nargs="+", metavar="G:T", help="scales and offsets; default: drawn as training")
    add("--count", type=int, default=12, help="how many to draw (default: %(default)s)")
    add("--seed", type=int, default=1234, help="of the draws (default: %(default)s)")
    args = parser.parse_args(arguments)

    from megatron_patches.config import E2Config
    from megatron_patches.methods import method_for
    from tools.evaluation.plots import save_png

    config = E2Config(
        base_window=args.base_window,
        train_window=args.train_window or args.base_window,
        max_scale=args.max_scale,
        keep_first=args.keep_first,
    )
    if args.count < 1:
        raise UserError(f"--count {args.count}: must be at least 1")
    if args.draws:
        draws = [parse_draw(text, config) for text in args.draws]
    else:
        draws = [method_for(config).draw(args.seed, index) for index in range(args.count)]
    save_png(draw(config, draws), args.output)
    print(args.output)


def parse_draw(text: str, config: "E2Config") -> "Draw":
    """Read ``G:T``.

    Raises:
        UserError: it is no such pair, or the offset leaves the window that g makes room for.
    """
    from megatron_patches.positions import max_offset
    from megatron_patches.sampler import Draw

    try:
        scale, offset = text.split(":")
        result = Draw(float(scale), int(offset))
    except ValueError as error:
        raise UserError(f"--draws {text}: write a scale and an offset as 5:8192") from error
    if result.scale < 1:
        raise UserError(f"--draws {text}: the scale has to be at least 1")
    room = max_offset(result.scale, config.base_window, config.train_window)
    if not 0 <= result.offset <= room:
        raise UserError(f"--draws {text}: the offset has to be in 0..{room} (g L - R)")
    return result


def draw(config: "E2Config", draws: list["Draw"]) -> "Figure":
    """Draw a row per (g, t), the first on top.

    Args:
        config: L, R and how many tokens are kept.
        draws: the rows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.6 + 0.3 * len(draws)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for row, (scale, offset, _) in enumerate(draws):
        _row(left, row, config, scale, offset, 1.0, scale * config.base_window)
        _row(right, row, config, scale, offset, scale, config.base_window)
    left.set_xlabel("token of the extended window, m + t")
    right.set_xlabel("position that RoPE sees, (m + t) / g")
    right.axvline(config.base_window, color="#777777", linestyle=(0, (4, 3)), linewidth=1.2)
    right.annotate(
        f"L = {config.base_window}", (config.base_window, 1), xycoords=("data", "axes fraction"),
        xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=9, color="#555555",
    )  # fmt: skip
    left.set_yticks(
        range(len(draws)), [f"g = {scale:g}, t = {offset}" for scale, offset, _ in draws]
    )
    left.invert_yaxis()
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
    left.plot([], [], "|", color=KEPT, label=f"first {config.keep_first} tokens")
    left.plot([], [], color=BLOCK, linewidth=6, label="the other tokens of the window")
    left.plot([], [], color=ROOM, linewidth=6, label="room, g L tokens")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _row(
    axes: "Axes", row: int, config: "E2Config", scale: float, offset: int, unit: float, room: float
) -> None:
    """Draw one row; ``unit`` is how many tokens a step of the axis holds."""
    from megatron_patches.positions import rotary_positions

    x = rotary_positions(config.train_window, scale, offset, config.keep_first) * (scale / unit)
    kept, others = x[: config.keep_first].tolist(), x[config.keep_first :]
    axes.barh(row, room, height=0.55, color=ROOM)
    if len(others):
        first, last = others[0].item(), others[-1].item()
        axes.barh(row, last - first, left=first, height=0.55, color=BLOCK)
    axes.plot(kept, [row] * len(kept), "|", color=KEPT, markersize=11, markeredgewidth=2)


if __name__ == "__main__":
    main()
