# SPDX-License-Identifier: Apache-2.0
"""Draw which positions a training window takes for several scales and offsets.

    python tools/plot_positions.py --output positions.png                  a row per drawn (g, t)
    python tools/plot_positions.py --draws 2:0 5:0 5:8192 --output p.png   these rows
    python tools/plot_positions.py --method pose --factor 16 --output p.png
    python tools/plot_positions.py --placement skips --distances --output distances.png

Left, where the window lies among the tokens of the extended one; right, the positions that RoPE's
slowest channel sees: its angle over its original frequency. Both come from the code that training
uses (compare Figures 2 and 3 of arXiv 2401.06951). With --distances: how often which distance
between two tokens is trained, a line for each range of scales.
"""

import argparse
from typing import TYPE_CHECKING

from e2_common.errors import UserError, exit_on_user_error
from e2_common.outputs import OutputFile
from e2_llm.frequencies import RULES
from e2_llm.frequencies.longrope import read_factors
from e2_llm.methods import method_for
from e2_llm.registry import METHODS
from e2_llm.scales import DISTRIBUTIONS
from e2_tools.arguments import check_counts, command_parser

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from e2_llm.config import E2Config
    from e2_llm.sampler import Draw

DIM, THETA = (
    128,
    10000.0,
)  # head size and base of Llama; the slowest channel depends on neither much
KEPT, BLOCK, ROOM = "#D55E00", "#0072B2", "#E8E8E8"


def build_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = command_parser(__doc__)
    add = parser.add_argument
    add("--output", type=OutputFile, required=True, metavar="FILE.png")
    add("--method", default="e2", choices=tuple(METHODS), help="(default: %(default)s)")
    add("--frequencies", default="linear", choices=tuple(RULES), help="(default: %(default)s)")
    add("--factor", type=float, metavar="G", help="W / L, of all methods but e2 and none")
    add("--base-window", type=int, default=4096, metavar="L", help="(default: %(default)s)")
    add("--train-window", type=int, metavar="R", help="(default: L)")
    add("--max-scale", type=int, metavar="G_MAX", help="of e2 (default: 20)")
    add("--placement", metavar="PLACEMENT", help="of e2, as --e2-placement (default: offset)")
    add("--skips", type=int, metavar="N", help="of placement skips (default: 8)")
    add("--keep-first", type=int, metavar="N", help="of placement offset (default: 4)")
    add("--distribution", choices=tuple(DISTRIBUTIONS), help="of e2 (default: uniform-integer)")
    add("--distances", action="store_true", help="draw distances of tokens instead of windows")
    add("--theta", type=float, metavar="THETA", help="of the frequencies abf")
    add("--longrope-factors", type=read_factors, metavar="FILE", help="of the frequencies longrope")
    add("--draws", nargs="+", metavar="G:T", help="of e2; default: drawn as in training")
    add("--count", type=int, default=12, help="how many to draw (default: %(default)s)")
    add("--seed", type=int, default=1234, help="of the draws (default: %(default)s)")
    return parser


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write the picture."""
    args = build_parser().parse_args(arguments)

    from e2_llm.config import E2Config
    from e2_tools.plotting import save_png

    chosen = {
        "max_scale": args.max_scale,
        "placement": args.placement,
        "skips": args.skips,
        "keep_first": args.keep_first,
        "scale_distribution": args.distribution,
        "factor": args.factor,
        "theta": args.theta,
        "longrope_factors": args.longrope_factors,
    }
    config = E2Config(
        position_method=args.method,
        frequencies=args.frequencies,
        base_window=args.base_window,
        train_window=args.train_window or args.base_window,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    check_counts(args, ["count"])
    if args.draws and not METHODS[args.method].draws_scale():
        raise UserError(f"--draws: scales and offsets are e2's, not those of {args.method}")
    if args.distances:
        from e2_tools.planning.distance_picture import distance_picture

        if args.draws:
            raise UserError("--draws and --distances exclude each other")
        save_png(distance_picture(config, args.seed), args.output)
        print(args.output)
        return
    if args.draws:
        draws = [parse_draw(text, config) for text in args.draws]
    else:
        drawn = (method_for(config).draw(args.seed, index) for index in range(args.count))
        draws = list(dict.fromkeys(drawn))  # the fixed methods always draw the same
    save_png(draw(config, draws), args.output)
    print(args.output)


def parse_draw(text: str, config: "E2Config") -> "Draw":
    """Read ``G:T``.

    Raises:
        UserError: it is no such pair, or the offset leaves the window that g makes room for.
    """
    from e2_llm.positions import max_offset
    from e2_llm.sampler import Draw

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
    """Draw a row per draw, the first on top.

    Args:
        config: of the method.
        draws: the rows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.6 + 0.3 * len(draws)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for row, drawn in enumerate(draws):
        tokens, seen = window_positions(config, drawn)
        room = drawn.scale * config.base_window
        _row(left, row, tokens, tokens, config, room)
        _row(right, row, seen, tokens, config, room * seen[-1] / tokens[-1])
    left.set_xlabel("token of the extended window, m + t")
    linear = method_for(config).rule.name == "linear"
    who = "RoPE" if linear else "RoPE's slowest channel"
    right.set_xlabel(f"position that {who} sees, (m + t) / g")
    right.axvline(config.base_window, color="#777777", linestyle=(0, (4, 3)), linewidth=1.2)
    right.annotate(
        f"L = {config.base_window}", (config.base_window, 1), xycoords=("data", "axes fraction"),
        xytext=(-4, 4), textcoords="offset points", ha="right", fontsize=9, color="#555555",
    )  # fmt: skip
    left.set_yticks(range(len(draws)), [method_for(config).describe(drawn) for drawn in draws])
    left.invert_yaxis()
    for axes in (left, right):
        axes.set_xlim(left=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
    if kept := _kept(config):
        left.plot([], [], "|", color=KEPT, label=f"first {kept} tokens")
    left.plot([], [], color=BLOCK, linewidth=6, label="the (other) tokens of the window")
    left.plot([], [], color=ROOM, linewidth=6, label="room, g L tokens")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def window_positions(config: "E2Config", drawn: "Draw") -> "tuple[Tensor, Tensor]":
    """Where the tokens of a training window lie, by the code of training.

    Joints of its text are made up where the placement needs them.

    Args:
        config: of the method.
        drawn: a draw of it.

    Returns:
        Tokens of the extended window, and the positions that the slowest channel sees; fp32 [R].
    """
    from e2_llm.frequencies import rope

    method = method_for(config)
    length = config.train_window
    joints = method.example_joints(drawn, length)
    positions = method.positions(drawn, length, joints=joints)
    slowest = method.frequencies(drawn, DIM, THETA).inverse[-1] / rope(DIM, THETA)[-1]
    return method.tokens(drawn, length, joints=joints), positions * slowest


def _kept(config: "E2Config") -> int:
    return method_for(config).kept_tokens or 0


def _row(
    axes: "Axes", row: int, x: "Tensor", tokens: "Tensor", config: "E2Config", room: float
) -> None:
    """Draw one row: a bar for each run of tokens that follow one another."""
    kept = _kept(config)
    axes.barh(row, room, height=0.55, color=ROOM)
    token = ((x[-1] - x[0]) / (tokens[-1] - tokens[0])).item()  # how wide one is
    gaps = (tokens[kept:].diff() > 1.5).nonzero().flatten() + 1
    for run in x[kept:].tensor_split(gaps):
        if len(run):
            first, last = run[0].item(), run[-1].item()
            axes.barh(row, max(last - first, token), left=first, height=0.55, color=BLOCK)
    axes.plot(x[:kept].tolist(), [row] * kept, "|", color=KEPT, markersize=11, markeredgewidth=2)
