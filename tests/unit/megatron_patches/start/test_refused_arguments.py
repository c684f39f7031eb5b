# SPDX-License-Identifier: Apache-2.0
"""Every argument that would do nothing is tried on a command line: one line that names it."""

import argparse
from argparse import Namespace

import pytest

from benchmarks.arguments.table import (
    NEEDS_TE,
    TOLD,
    groups,
    megatron_parser,
    refusal,
    values_refused,
)
from e2_common.errors import UserError
from megatron_patches.start.owners import OWNERS, check_owners
from megatron_patches.start.refused import (
    Typed,
    refuse_ignored,
    refuse_overruled,
    refuse_without_te,
    taken_over,
)
from tests.distributed.world import TINY_MODEL, TINY_TRAINING
from tests.end_to_end.command_lines import refusals

COMMAND = [*TINY_MODEL, *TINY_TRAINING, "--mock-data", "--split", "80,20,0"]
COMMAND += ["--tokenizer-type", "NullTokenizer", "--vocab-size", "255"]
# Without the argument that they belong to, and with it or with one that is told only.
ALONE = (["--moe-layer-freq", "2"], ["--mup-embedding-mult", "2"])
TOGETHER = (["--num-query-groups", "4"], ["--initial-loss-scale", "8"])


def words_of(action):
    """A flag with a value that is not its default."""
    flag = action.option_strings[0]
    if action.nargs == 0:
        return [flag]
    values = [*(action.choices or ()), "7", "0.37", "x", "8,0", "[1,0]"]
    for value in values:
        text = getattr(value, "name", str(value))
        try:
            parsed = action.type(text) if action.type else text
        except (ValueError, TypeError, KeyError, AssertionError):
            continue
        if parsed != action.default:
            return [flag, *[text] * (action.nargs if isinstance(action.nargs, int) else 1)]
    raise AssertionError(f"no value for {flag}")


@pytest.fixture(scope="module")
def parser():
    return megatron_parser()


@pytest.fixture(scope="module")
def found(parser):
    """Fate, of what is not honoured -> its flags, as words of a command line."""
    # Of two flags for one name the one that says something else than the default.
    actions = {
        action.dest: action
        for action in reversed(parser._actions)
        if action.nargs != 0 or action.const != parser.get_default(action.dest)
    }
    result = {}
    for group, arguments in groups(parser).items():
        for dest, flag in arguments.items():
            row = refusal(dest, flag, group)
            if row:
                result.setdefault(row.fate, {})[dest] = words_of(actions[dest])
    return result


@pytest.fixture(scope="module")
def cases(found):
    """Every command line that is tried, by what is added to one that works."""
    added = [words for flags in found.values() for words in flags.values()]
    added += [[f"--{dest.replace('_', '-')}", value] for dest, value, _ in values_refused()]
    added += [*ALONE, *TOGETHER]
    return {" ".join(words): words for words in added}


@pytest.fixture(scope="module")
def told(cases):
    """What was refused of them, in one process."""
    return refusals({name: ["1", *COMMAND, *words] for name, words in cases.items()})


def test_every_refusal_is_one_line(found, cases, told):
    told_only = {" ".join(words) for words in [*found[TOLD].values(), *ALONE, *TOGETHER]}
    names = cases.keys() - told_only
    assert len(names) > 300
    wrong = {
        name: told.get(name)
        for name in names
        if not told.get(name, "").startswith(f"{cases[name][0]}: ")
        or "\n" in told[name]
        or len(told[name]) > 250
    }
    assert wrong == {}


def test_what_changes_nothing_is_told_and_not_refused(found, told):
    for dest, words in found[TOLD].items():
        assert " ".join(words) not in told
        (note,) = refuse_ignored([Typed(dest, words[0], "")])
        assert note.startswith(f"{words[0]}: Megatron 0.19.2 reads it nowhere: ")


def test_arguments_without_their_owner(told):
    assert told[" ".join(ALONE[0])] == (
        "--moe-layer-freq: means nothing without --num-experts; give both or neither"
    )
    assert told[" ".join(ALONE[1])] == (
        "--mup-embedding-mult: means nothing without --use-mup; give both or neither"
    )
    for words in TOGETHER:
        assert " ".join(words) not in told


def test_transformer_engines_layers_have_what_the_local_ones_lack(found):
    for dest, (flag, *_) in found[NEEDS_TE].items():
        refuse_without_te([Typed(dest, flag, "")], "transformer_engine")


@pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.flag)
def test_an_argument_is_told_only_without_its_owner(owner):
    nothing = {"optimizer": "sgd", "lr_decay_style": "constant"}
    nothing |= {"optimizer": "adam"} if owner.flag == "--optimizer sgd" else {}
    name = owner.owned[0].replace("*", "x")

    class Without(argparse.Namespace):
        def __getattr__(self, _):
            return None

    run = Without(**nothing)
    told = [Typed(name, "--it", "")]
    if owner.of_the_model:
        with pytest.raises(UserError, match=f"--it: means nothing without {owner.flag}"):
            check_owners(told, run)
    else:
        assert check_owners(told, run) == [f"--it: means nothing without {owner.flag}"]


def test_a_checkpoint_does_not_overrule_the_command_line_unsaid(parser):
    told = [Typed("rotary_base", "--rotary-base", "", 500000), Typed("lr", "--lr", "", 1.0)]
    args = Namespace(rotary_base=10000, lr=2.0)
    refuse_overruled(told, args, Namespace())  # no checkpoint was taken over
    refuse_overruled(told, args, Namespace(rotary_base=20000))
    with pytest.raises(UserError, match="--rotary-base 500000: .* the checkpoint's 10000"):
        refuse_overruled(told, args, Namespace(rotary_base=10000))


def test_what_a_checkpoint_brings_is_refused_as_if_it_were_typed(parser):
    taken = taken_over(parser, {"window_size": (8, 0), "softmax_type": "vanilla"})
    with pytest.raises(UserError, match="takes over --window-size: needs Transformer Engine"):
        refuse_without_te(taken, "local")
