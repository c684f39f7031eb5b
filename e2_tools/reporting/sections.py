# SPDX-License-Identifier: Apache-2.0
"""The parts of a report, in the order of a reader's questions."""

from collections.abc import Callable
from functools import partial

from e2_common.errors import UserError
from e2_tools.reporting import (
    attention,
    longbench,
    origins,
    perplexities,
    retrieval,
    short_tasks,
    summary,
    training,
)
from e2_tools.reporting.checkpoints import Page, page_of
from e2_tools.reporting.collect import Run
from e2_tools.reporting.page import Section

# Kind of result -> what makes its sections.
PARTS: dict[str, Callable[[Page], list[Section]]] = {
    retrieval.RULER: retrieval.ruler_section,
    perplexities.KIND: perplexities.section,
    **{kind: partial(retrieval.section, kind=kind) for kind in retrieval.TESTS},
    longbench.KIND: longbench.sections,
    short_tasks.KIND: short_tasks.section,
    attention.KIND: attention.section,
}


def sections_of(run: Run, *, order: list[str] | None = None, seeds: bool = False) -> list[Section]:
    """Return the sections that a run has results for, the summary first.

    Args:
        run: what was found.
        order: names or labels of checkpoints in the order of columns; the others stand behind.
        seeds: perplexities of one label are one run under several seeds.

    Raises:
        UserError: a result file is incomplete.
    """
    page = page_of(run, order, seeds=seeds)
    sections = []
    for kind, make in PARTS.items():
        try:
            sections += make(page)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            files = ", ".join(str(path) for path, _ in run.results.get(kind, []))
            raise UserError(f"{files}: not a whole {kind} result; evaluate anew") from error
    found = [summary.section(page)] if page.names else []
    return [*found, *sections, *training.section(page), origins.section(page)]
