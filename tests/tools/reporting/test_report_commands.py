# SPDX-License-Identifier: Apache-2.0
"""The page's commands measure what stands in their row and column, and write over nothing."""

import itertools
import shlex

import pytest

from e2_tools.commands import (
    evaluate_longbench,
    evaluate_needle,
    evaluate_perplexity,
    evaluate_ruler,
)
from e2_tools.reporting.checkpoints import doubts, page_of
from e2_tools.reporting.collect import collect
from tests.tools.reporting.results import first_screen, grid, made_by, perplexity, ruler, write

PARSERS = {
    f"tools/{module.__name__.rpartition('.')[2]}.py": module.build_parser
    for module in (evaluate_longbench, evaluate_needle, evaluate_perplexity, evaluate_ruler)
}
RULER = "python tools/evaluate_ruler.py --windows 256 --model m/a --output a.json"


def parsed(told):
    """The arguments of each of several commands."""
    lists = [shlex.split(command) for command in told.split(" && ")]
    return [PARSERS[words[1]]().parse_args(words[2:]) for words in lists]


def said(folder, what):
    _, section = first_screen(folder)
    return [command for name, command in section.commands if name.startswith(what)]


@pytest.mark.parametrize("mode", ["auto", "none", 4.0, 2.5, None])
@pytest.mark.parametrize("other", ["", "--scale 8", "--scale=none", "--frequencies ntk"])
def test_a_command_serves_a_checkpoint_as_its_other_files_were(tmp_path, mode, other):
    rules = [" --frequencies yarn", " --frequencies=yarn", ""] if mode == 2.5 else [""]
    for rule in rules:
        own = made_by(f"python tools/evaluate_needle.py --model m/b --output b.json{rule}")
        write(
            tmp_path,
            a=ruler("a", {256: {"vt": 1.0}}) | {"model": "m/a"} | made_by(f"{RULER} {other}"),
            b=grid("e2-llm/needle/1", "b") | {"model": "m/b", "scale_mode": mode} | own,
        )
        (command,) = said(tmp_path, "RULER of b")
        (args,) = parsed(command)
        assert (args.label, str(args.model), args.windows) == ("b", "m/b", [256])
        if mode is None:  # nobody knows: as the other
            assert args.scale == {"--scale 8": 8.0, "--scale=none": "none"}.get(other, "auto")
        else:
            assert args.scale == mode
            assert args.frequencies == ("yarn" if rule else None)
        # What nobody was asked is served so, too.
        (command,) = said(tmp_path, "Perplexity of b")
        assert parsed(command)[0].scale == ("auto" if mode is None else mode)


def test_no_command_writes_over_another_or_over_a_file(tmp_path):
    command = "python tools/evaluate_needle.py --model m/a --windows 256 512 --output a.json"
    for number in range(3):  # three ways of asking, which b lacks
        a = grid("e2-llm/needle/1", "a") | {"model": "m/a", "seed": number}
        write(tmp_path, **{f"a{number}": a | made_by(f"{command} --seed {number}")})
    write(tmp_path, b=perplexity("b", {256: 9.0}, model="m/b"))
    (tmp_path / "needle-b-2.json").write_text("{}")  # of an evaluation that was broken off
    (tmp_path / "ruler-a.json").write_text("{}")
    _, section = first_screen(tmp_path)
    outputs = [
        words[words.index(flag) + 1]
        for words in (shlex.split(command) for _, command in section.commands)
        for flag in ("--output", "--out")
        if flag in words
    ]
    names = [output.rpartition("/")[2] for output in outputs]
    assert names.count("needle-b.json") == 1
    assert {"needle-b-3.json", "needle-b-4.json", "ruler-a-2.json"} <= set(names)
    assert len(set(outputs)) == len(outputs)


def test_a_file_of_several_commands_is_made_by_all_of_them(tmp_path):
    first, last = RULER, RULER.replace("256", "512 1024") + " --resume --tasks vt"
    origin = made_by(last)
    origin["provenance"]["earlier_commands"] = [first]
    write(
        tmp_path,
        a=ruler("a", {256: {"vt": 1.0}, 512: {"vt": 1.0}}) | {"model": "m/a"} | origin,
        b=grid("e2-llm/needle/1", "b") | {"model": "m/b"},
    )
    one, two = parsed(said(tmp_path, "RULER of b")[0])
    assert (one.windows, one.resume, two.windows, two.resume) == ([256], False, [512, 1024], True)
    assert one.output == two.output


def test_a_larger_window_of_perplexity_begins_the_file_anew(tmp_path):
    """Going on would be refused: the second perplexity depends on the largest window."""
    command = "python tools/evaluate_perplexity.py --model m/a --data d --windows 512 "
    write(
        tmp_path,
        a=perplexity("a", {512: 9.0}, model="m/a") | made_by(f"{command} --output a"),
        b=perplexity("b", {256: 9.0}, model="m/b"),
        c=perplexity("c", {512: 9.0}, model="m/c"),
    )
    (told,) = said(tmp_path, "Perplexity of b")
    (args,) = parsed(told)
    assert (args.windows, args.resume) == ([256, 512], False)
    assert args.output == tmp_path / "b.json"


SETS = [
    *({"seed": 7}, {"haystack": {"path": "x", "sha256": "1"}}, {"chat": True}, {"trials": 8}),
    *({"values": "uuids"}, {"depths": "fewer"}, {"haystack": {"path": "x", "sha256": "2"}}),
    *({"bos": False}, {"data": {"path": "held_out.jsonl", "sha256": "1" * 64}}, {"stride": 7}),
    *({"documents": {"line": [1], "sha256": ["a"]}}, {"protocol": "yarn"}, {"tasks": "others"}),
    *({"words": "wonderwords 1"}, {"squad": {"file": "s.json", "sha256": "3"}}),
]


def test_rows_of_one_test_say_what_sets_them_apart(tmp_path):
    write(tmp_path, r=ruler("a", {256: {"vt": 1.0}}), n=grid("e2-llm/needle/1", "a"))
    write(tmp_path, p=perplexity("a", {128: 1.5}))
    for number, change in enumerate(SETS):
        kind = "p" if {*change} & {"bos", "data", "stride", "documents", "protocol"} else "n"
        kind = "r" if {*change} & {"tasks", "words", "squad"} else kind
        content = {
            "p": perplexity("a", {128: 1.5}),
            "n": grid("e2-llm/needle/1", "a"),
            "r": ruler("a", {256: {"fwe" if "tasks" in change else "vt": 1.0}}),
        }[kind]
        if "depths" in change:
            content["results"] = [cell for cell in content["results"] if cell["depth"] == 0]
        elif "tasks" not in change:
            content |= change
        write(tmp_path, **{f"{kind}{number}": content})
    _, section = first_screen(tmp_path)
    told = [(row[0].text, row[0].small) for row in section.tables[0].rows]
    assert len(told) == len(SETS) + 3 + 1  # short tasks
    for one, other in itertools.combinations(told, 2):
        assert one != other


def test_one_name_for_several_weights_is_said(tmp_path):
    def weights(name):
        return {"model": "m/e2", "weights": name}

    write(
        tmp_path,
        n=grid("e2-llm/needle/1", "e2") | weights("new"),
        p=perplexity("e2", {128: 9.0}) | weights("old"),
        q=perplexity("e2", {256: 9.0}) | weights("old"),
        r=ruler("e2", {256: {"vt": 1.0}}) | {"model": "m/e2"},  # of an older version
    )
    (told,) = (doubt for doubt in doubts(page_of(collect(tmp_path))) if "weights" in doubt)
    assert told.startswith("e2 is several models")
    assert told.endswith("[1] – [2][3]")
    (tmp_path / "n.json").unlink()
    assert not [doubt for doubt in doubts(page_of(collect(tmp_path))) if "weights" in doubt]
