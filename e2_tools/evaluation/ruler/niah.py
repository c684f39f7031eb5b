# SPDX-License-Identifier: Apache-2.0
"""RULER's needles in a haystack: ``niah_single``, ``_multikey``, ``_multivalue``, ``_multiquery``.

The draws are those of scripts/data/synthetic/niah.py.
"""

from collections.abc import Iterator

from e2_tools.evaluation.passkey.prompt import FILLER as NOISE  # RULER took it from there
from e2_tools.evaluation.ruler.sizing import Room, Sample
from e2_tools.evaluation.ruler.tasks import NEEDLE, NIAH, for_one
from e2_tools.evaluation.ruler.text import Essay
from e2_tools.evaluation.ruler.words import draw_magic

DEPTHS = [round(100 * place / 39) for place in range(40)]  # of a text's sentences, in percent


def samples(
    room: Room,
    *,
    haystack: str,
    keys: str,
    values: str,
    num_keys: int,
    num_values: int,
    num_queries: int,
    essay: Essay | None = None,
) -> Iterator[Sample]:
    """Yield the samples of a needle task, without end.

    Args:
        room: what to fill.
        haystack: ``noise``, ``essay``, or ``needle`` for nothing but other needles.
        keys: what keys are, ``words``, ``numbers`` or ``uuids``.
        values: what values are.
        num_keys: that are hidden.
        num_values: of each key.
        num_queries: keys that are asked for.
        essay: the haystack of that name.

    Raises:
        UserError: the window is too small.
    """
    draws = room.draws

    def pair() -> str:
        key = draw_magic(draws, keys)
        return NEEDLE.format(values=values, key=key, value=draw_magic(draws, values))

    def around(needles: list[str], size: int) -> str:
        if haystack == "essay":
            assert essay is not None
            sentences = essay.sentences(size)
            depths = draws.sample(DEPTHS, len(needles))
            places = sorted(int(len(sentences) * (depth / 100)) for depth in depths)
            parts = []
            for begin, end, needle in zip([0, *places], places, needles, strict=False):
                parts += [" ".join(sentences[begin:end]), needle]
            return " ".join([*parts, " ".join(sentences[places[-1] :])])
        lines = [NOISE] * size if haystack == "noise" else [pair() for _ in range(size)]
        for place, needle in zip(
            sorted(draws.sample(range(size), len(needles)), reverse=True), needles, strict=True
        ):
            lines.insert(place, needle)
        return "\n".join(lines)

    def make(size: int) -> Sample:
        hidden = []
        for _ in range(num_keys):
            key = draw_magic(draws, keys)
            hidden.append((key, [draw_magic(draws, values) for _ in range(num_values)]))
        needles = [
            NEEDLE.format(values=values, key=key, value=value)
            for key, own in hidden
            for value in own
        ]
        room.shuffle(needles)
        context = around(needles, size)
        asked = [hidden[number] for number in draws.sample(range(num_keys), num_queries)]
        *others, last = (key for key, _ in asked)
        key = f"{', '.join(others)}, and {last}" if others else last
        template, prefix, kind = NIAH.template, NIAH.answer_prefix, values
        if num_queries * num_values == 1:
            template, prefix, kind = for_one(template), for_one(prefix), values.removesuffix("s")
        question = template.format(kind=kind, key=key, context=context)
        prompt = room.prompt(question, prefix.format(kind=kind, key=key))
        return Sample(prompt, [value for _, own in asked for value in own])

    step = 500 if haystack == "essay" else 25 if room.window >= 4096 else 5
    limit = room.window - NIAH.max_new_tokens
    size = room.largest(
        make, limit, probe=step, step=step, bound=lambda unit: int(room.window / unit * 3)
    )
    while True:
        yield room.fitting(make, limit, size, step)
