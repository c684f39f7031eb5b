# SPDX-License-Identifier: Apache-2.0
"""RULER's variable tracking, ``vt``: a chain of assignments in noise, and a solved example.

The draws are those of scripts/data/synthetic/variable_tracking.py, with one chain of four hops.
"""

import string
from collections.abc import Iterator

from e2_tools.evaluation.passkey.prompt import FILLER as NOISE
from e2_tools.evaluation.ruler.sizing import Room, Sample
from e2_tools.evaluation.ruler.tasks import VT

HOPS = 4
VARIABLES = HOPS + 1
EXAMPLE_TOKENS = 500  # of the solved example, at most
EXAMPLE_VALUE = "12345"


def samples(room: Room) -> Iterator[Sample]:
    """Yield the samples of a window, without end.

    Raises:
        UserError: the window is too small.
    """
    example = _example(room)
    limit = room.window - VT.max_new_tokens
    step = 10 if room.window >= 4096 else 5
    size = room.largest(
        lambda size: _sample(room, size),
        limit - room.tokens(example),
        probe=step,
        step=step,
        bound=lambda unit: int(room.window / unit * 3),
    )

    def make(size: int) -> Sample:
        sample = _sample(room, size)
        before = room.chat[0]
        shown = _renamed(room, example)
        prompt = f"{before}{shown}\n{sample.prompt[len(before) :]}"
        return Sample(prompt, sample.answers)

    while True:
        yield room.fitting(make, limit, size, step)


def _example(room: Room) -> str:
    """The solved example, with three letters a variable, and a chat template only around it."""

    def make(size: int) -> Sample:
        return _sample(room, size, letters=3, value=EXAMPLE_VALUE, plain=True)

    step = 5
    size = room.largest(
        make, EXAMPLE_TOKENS, probe=step, step=step, bound=lambda unit: int(500 / unit * 3)
    )
    sample = room.fitting(make, EXAMPLE_TOKENS, size, step)
    return f"{sample.prompt} {' '.join(sample.answers)}\n"


def _sample(
    room: Room, size: int, *, letters: int = 5, value: str | None = None, plain: bool = False
) -> Sample:
    names = [_name(room, letters) for _ in range(VARIABLES)]
    while len(set(names)) < VARIABLES:
        names.append(_name(room, letters))
    # A name drawn twice begins a second chain, which is too short: the sample is thrown away.
    chains = [
        _chain(names[at : at + VARIABLES], value or _value(room))
        for at in range(0, len(names), VARIABLES)
    ]
    (chain,) = chains
    lines = [NOISE] * size
    for number, place in enumerate(sorted(room.draws.sample(range(size), VARIABLES))):
        lines.insert(place + number, chain[number])
    context = "\n".join(lines).replace(". \n", ".\n")
    told = chain[0].split("=")[-1].strip()
    question = VT.template.format(context=context, value=told)
    prefix = VT.answer_prefix.format(variables=VARIABLES, value=told)
    prompt = question + prefix if plain else room.prompt(question, prefix)
    return Sample(prompt, names[:VARIABLES])


def _chain(names: list[str], value: str) -> list[str]:
    hops = [f"VAR {names[hop + 1]} = VAR {names[hop]} " for hop in range(HOPS)]
    return [f"VAR {names[0]} = {value}", *hops]


def _name(room: Room, letters: int) -> str:
    return "".join(room.draws.choices(string.ascii_uppercase, k=letters))


def _value(room: Room) -> str:
    return str(room.numbers.randint(10000, 99999))


def _renamed(room: Room, example: str) -> str:
    """The example with other names and another value, wherever their letters occur."""
    for name in example.strip().split()[-VARIABLES:]:
        example = example.replace(name, _name(room, len(name)))
    return example.replace(EXAMPLE_VALUE, _value(room))
