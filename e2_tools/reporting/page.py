# SPDX-License-Identifier: Apache-2.0
"""A page of sections as one HTML file that loads nothing: pictures are in it, scripts are not."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.html")


@dataclass
class Table:
    """A table of text cells: numbers stand to the right, ``prose`` to the left."""

    head: list[str]
    rows: list[list[str]]
    caption: str = ""
    prose: bool = False


@dataclass
class Section:
    """A part of the page: ``figures`` are (what the picture shows, the picture)."""

    title: str
    about: str
    figures: list[tuple[str, Figure]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The section's id within the page."""
        return "-".join(self.title.lower().split())


def render(title: str, subtitle: str, sections: list[Section]) -> str:
    """Return the page.

    Args:
        title: its heading.
        subtitle: one line below.
        sections: in their order.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, subtitle=subtitle, sections=sections, data_uri=data_uri)


def data_uri(figure: Figure) -> str:
    """Return a figure as a data URI: SVG, which stays sharp and selectable in print."""
    buffer = io.BytesIO()
    # No date: the same results give the same bytes.
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
