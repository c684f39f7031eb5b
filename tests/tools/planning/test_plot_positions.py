# SPDX-License-Identifier: Apache-2.0
"""The picture of positions: what it shows, what it refuses."""

import pytest
from PIL import Image

from e2_llm.config import E2Config
from e2_llm.methods import method_for
from e2_llm.sampler import Draw
from e2_tools.commands.plot_positions import draw, main
from e2_tools.planning.distance_picture import distance_picture
from tests.helpers.commands import refused

CONFIG = E2Config(base_window=64, train_window=64, max_scale=8)


def test_blocks_are_the_positions_of_training():
    figure = draw(CONFIG, [Draw(1.0, 0), Draw(4.0, 100)])
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == [
        "g = 1, t = 0",
        "g = 4, t = 100",
    ]
    # Bars come in pairs, the room and the block, a pair for each row.
    room, block = left.patches[2:]
    assert (room.get_x(), room.get_width()) == (0, 256)
    assert (block.get_x(), block.get_width()) == pytest.approx((104, 59))
    room, block = right.patches[2:]
    assert (room.get_x(), room.get_width()) == (0, 64)
    assert (block.get_x(), block.get_width()) == pytest.approx((26, 59 / 4))
    assert list(right.lines[1].get_xdata()) == pytest.approx([0, 0.25, 0.5, 0.75])


def test_draws_are_those_of_training_by_default(tmp_path, monkeypatch):
    import e2_tools.commands.plot_positions as tool

    seen = []
    monkeypatch.setattr(
        tool, "draw", lambda config, draws: seen.extend(draws) or draw(config, draws)
    )
    output = tmp_path / "new" / "positions.png"
    main(["--output", str(output), "--count", "3", "--seed", "7"])
    paper = E2Config(base_window=4096, train_window=4096)
    assert seen == [method_for(paper).draw(7, index) for index in range(3)]
    with Image.open(output) as picture:
        assert picture.format == "PNG"


def blocks(axes):
    """(left, width) of every bar but the room, which is the first of its row."""
    return [(bar.get_x(), bar.get_width()) for bar in axes.patches[1:]]


def test_pose_is_two_blocks_of_training():
    config = E2Config(position_method="pose", factor=8, base_window=64, train_window=64)
    drawn = method_for(config).draw(3, 0)
    left, right = draw(config, [drawn]).axes
    positions = method_for(config).positions(drawn, 64).tolist()
    (first, width), (second, rest) = blocks(left)
    cut = positions.index(second)
    assert (first, first + width) == (0, positions[cut - 1])
    assert (second, second + rest) == (positions[cut], positions[-1])
    assert blocks(right)[1] == pytest.approx((second / 8, rest / 8))


def test_randpos_shows_every_token():
    config = E2Config(position_method="randpos", factor=8, base_window=64, train_window=8)
    drawn = method_for(config).draw(3, 0)
    left, _ = draw(config, [drawn]).axes
    starts = {start for start, _ in blocks(left)}
    assert starts <= set(method_for(config).positions(drawn, 8).tolist())
    assert len(starts) > 4


@pytest.mark.parametrize("rule", ["ntk", "yarn"])
def test_the_slowest_channel_is_divided_by_every_rule(rule):
    config = E2Config(frequencies=rule, base_window=64, train_window=64)
    left, right = draw(config, [Draw(4.0, 100)]).axes
    assert blocks(left)[0] == pytest.approx((104, 59))
    assert blocks(right)[0] == pytest.approx((26, 59 / 4), rel=0.02)


def test_fixed_methods_have_one_row(tmp_path, monkeypatch):
    import e2_tools.commands.plot_positions as tool

    seen = []
    monkeypatch.setattr(
        tool, "draw", lambda config, draws: seen.extend(draws) or draw(config, draws)
    )
    main(["--method", "yarn", "--factor", "8", "--output", str(tmp_path / "p.png")])
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        (["--method", "pose", "--factor", "8", "--draws", "2:0"], "--draws"),
        (["--method", "pose"], "--e2-factor"),
        (["--draws", "5"], "--draws 5"),
        (["--draws", "2:5000"], "--draws 2:5000"),
        (["--draws", "0.5:0"], "--draws 0.5:0"),
        (["--count", "0"], "--count 0"),
        (["--base-window", "0"], "--e2-base-window 0"),
    ],
)
def test_bad_input(tmp_path, capsys, options, culprit):
    output = tmp_path / "p.png"
    refused(capsys, culprit, main, ["--output", str(output), *options], untouched=tmp_path)


@pytest.mark.parametrize("placement", ["offset", "skips", "random", "sentences"])
def test_distances_are_drawn_by_range_of_scales(tmp_path, placement):
    picture = tmp_path / "distances.png"
    options = ("--base-window", "64", "--max-scale", "8", "--placement", placement)
    main([*options, "--distances", "--output", str(picture)])
    with Image.open(picture) as image:
        assert image.format == "PNG"
    config = E2Config(base_window=64, train_window=64, max_scale=8, placement=placement)
    figure = distance_picture(config, 1)
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert labels == ["g 1 to 2", "g 2 to 4", "g 4 to 8"]


def test_a_method_without_a_largest_scale_has_no_picture_of_distances(tmp_path, capsys):
    output = ("--output", str(tmp_path / "p.png"))
    refused(capsys, "--distances", main, ["--distances", "--method", "none", *output])


def test_distances_and_draws_exclude_each_other(tmp_path, capsys):
    output = ("--output", str(tmp_path / "p.png"))
    refused(capsys, "exclude each other", main, ["--distances", "--draws", "2:0", *output])
