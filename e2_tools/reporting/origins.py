# SPDX-License-Identifier: Apache-2.0
"""The part of a report on where its numbers come from: every file with what made it."""

from typing import Any

from e2_tools.evaluation.result_file import Results
from e2_tools.reporting.checkpoints import Page, all_results
from e2_tools.reporting.page import Section, Source


def section(page: Page) -> Section:
    """Return the section; cells name files by the numbers that they have here."""
    about = "What made each result file, as the file itself records it; numbers name these files."
    sources = [
        Source(number, page.file(path), str(content["label"]), _commands(content), _origin(content))
        for number, (path, content) in enumerate(all_results(page.run), 1)
    ]
    return Section("Where the numbers come from", about, sources=sources)


def _commands(content: Results) -> tuple[str, ...]:
    """The commands that made a file, in their order: those of what it was made of first."""
    origin = content.get("provenance") or {}
    made_of = [(content.get(name) or {}).get("command") for name in ("before", "after")]
    predicted = (content.get("predictions") or {}).get("provenance") or {}
    commands = [
        *made_of,
        predicted.get("command"),
        *origin.get("earlier_commands", ()),
        origin.get("command"),
    ]
    return tuple(dict.fromkeys(filter(None, commands)))


def _origin(content: Results) -> tuple[str, ...]:
    origin = content.get("provenance") or {}
    versions = origin.get("versions") or content.get("versions") or {}
    found = [
        f"commit {origin['commit']}" if origin.get("commit") else "",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        _machine(origin.get("hardware") or {}),
    ]
    return tuple(filter(None, found))


def _machine(hardware: dict[str, Any]) -> str:
    if not hardware:
        return ""
    parts = [*hardware.get("gpus", []), f"{hardware.get('cores')} x {hardware.get('cpu')}"]
    if hardware.get("memory_gib"):
        parts.append(f"{hardware['memory_gib']:g} GiB")
    return ", ".join(parts)
