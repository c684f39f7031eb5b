# SPDX-License-Identifier: Apache-2.0
"""A page of sections as one HTML file that loads nothing: pictures are in it, scripts are not."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("page.html")
WIDTH = 5.0  # inches of a picture: two stand beside each other, and a phone shows it readably
WIDE = 7.0  # inches from which a picture scrolls in its box, rather than shrink


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says.
        small: lines of small print below: what the text depends on.
        color: of the dot before it, by which pictures know a name.
        sources: numbers of the files that it was read from, see :class:`Source`.
    """

    text: str
    small: tuple[str, ...] = ()
    color: str = ""
    sources: tuple[int, ...] = ()


@dataclass(frozen=True)
class Source:
    """A result file: its number on the page, what made it, and where.

    Attributes:
        number: by which cells name it.
        file: its path, as the page shows it.
        name: whose results it holds.
        commands: that made it; none if the file does not say.
        origin: commit, versions and machine, in words.
    """

    number: int
    file: str
    name: str
    commands: tuple[str, ...]
    origin: tuple[str, ...]


@dataclass
class Table:
    """A table: numbers stand to the right, of ``prose`` all stands to the left."""

    head: list[str | Cell]
    rows: list[list[str | Cell]]
    caption: str = ""
    prose: bool = False


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        about: what its numbers are.
        figures: what a picture shows -> the picture.
        tables: below the pictures.
        notes: what has to be known before the numbers are believed.
        commands: (what is missing, the command that would measure it).
        sources: result files.
    """

    title: str
    about: str
    figures: list[tuple[str, Figure]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)

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
    environment.tests["cell"] = lambda value: isinstance(value, Cell)
    environment.tests["wide"] = lambda figure: figure.get_figwidth() >= WIDE
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, subtitle=subtitle, sections=sections, data_uri=data_uri)


def data_uri(figure: Figure) -> str:
    """Return a figure as a data URI: SVG, which stays sharp and selectable in print."""
    buffer = io.BytesIO()
    # No date: the same results give the same bytes.
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
