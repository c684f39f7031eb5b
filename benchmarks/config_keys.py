# SPDX-License-Identifier: Apache-2.0
"""Writes the table of keys into docs/families.md: what becomes of every key of a config.json.

    python -m benchmarks.config_keys --write

Without ``--write`` it says whether the page is up to date.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import marked
from e2_tools.checkpoint.config_keys import (
    ALWAYS,
    DROPPED,
    REFUSED,
    ROPE_REFUSED,
    Refused,
    fields,
    verdict,
)
from e2_tools.checkpoint.families import FAMILIES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "families.md"
BEGIN, END = "<!-- keys: python -m benchmarks.config_keys --write -->", "<!-- end of keys -->"


def table() -> str:
    """The table as Markdown: a row a key."""
    families = FAMILIES.values()
    names = set(REFUSED) | set(DROPPED) | set(ALWAYS)
    names = names.union(*map(fields, families), *(family.config for family in families))
    rows = [f"| `{name}` | {_fate(name)} | {_why(name)} |" for name in sorted(names)]
    rows += [
        f"| `rope_parameters.{name}` | refused | {_rule(rule)} |"
        for name, rule in sorted(ROPE_REFUSED.items())
    ]
    return "\n".join(["| key | what becomes of it | plain value, or why |", "|---|---|---|", *rows])


def _fate(name: str) -> str:
    """What most families do with it; the families that do something else by name."""
    found: dict[str, list[str]] = {}
    for family in FAMILIES.values():
        found.setdefault(verdict(name, family), []).append(family.title)
    most, *others = sorted(found, key=lambda fate: -len(found[fate]))
    return most + "".join(f"; {fate}: {', '.join(found[fate])}" for fate in others)


def _why(name: str) -> str:
    families = FAMILIES.values()
    if name in REFUSED:
        return _rule(REFUSED[name])
    plain = {repr(family.config[name]) for family in families if name in family.config}
    if plain:
        return f"plain: {' or '.join(sorted(plain))}"
    dropped = any(verdict(name, family) == "dropped" for family in families)
    return DROPPED.get(name, "dropped where no class reads it") if dropped else ""


def _rule(rule: Refused) -> str:
    plain = " or ".join(map(repr, rule.plain[:1]))
    return f"plain: {plain}; else {rule.why}" if plain else rule.why


def filled(text: str) -> str:
    """The page with the table of today."""
    return marked.filled(text, BEGIN, END, table())


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page")
    args = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8")
    if args.write:
        marked.write(PAGE, BEGIN, END, table())
    elif filled(text) != text:
        sys.exit(f"{PAGE}: not up to date; write it with --write")


if __name__ == "__main__":
    main()
