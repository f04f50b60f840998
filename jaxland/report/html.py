"""One self-contained HTML file: headings, text, tables, figures. No scripts from elsewhere, no files beside it.

A ``Page`` collects blocks; the templates beside this module turn them into markup and escape all text.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxland.report.embed import embedded
from jaxland.runs import write_whole

if TYPE_CHECKING:
    from jinja2 import Environment

LONG = 48
NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?|–")


@cache
def templates() -> Environment:
    """Where the templates of this package are; autoescape is on for all of them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("jaxland.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


@dataclass(frozen=True)
class Heading:
    """A section begins."""

    kind: ClassVar[str] = "heading"
    anchor: str
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Text; ``tone`` is the class of its box: "" (none), "note", "warn" or "headline"."""

    kind: ClassVar[str] = "paragraph"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Code:
    """A command line."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Listing:
    """Points of a list."""

    kind: ClassVar[str] = "listing"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """(word, meaning) pairs."""

    kind: ClassVar[str] = "words"
    words: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cards:
    """(value, label) pairs as boxes side by side."""

    kind: ClassVar[str] = "cards"
    cards: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Answers:
    """(question, answer, evidence, anchor or "", tone) of each question; tone "note" or "warn"."""

    kind: ClassVar[str] = "answers"
    answers: tuple[tuple[str, str, str, str, str], ...]


@dataclass(frozen=True)
class Table:
    """Cells as text; columns are (name, look): look "n" for numbers, "long" for text that may wrap, else ""."""

    kind: ClassVar[str] = "table"
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    @classmethod
    def of(cls, frame: pd.DataFrame, caption: str = "", digits: int = 4) -> Table:
        """The columns of a DataFrame; floats with ``digits`` significant digits, what is missing as a dash."""
        cells = [[_cell(v, digits) for v in frame.iloc[:, j]] for j in range(frame.shape[1])]
        looks = ["n" if _is_numeric(frame.iloc[:, j]) else _look(cells[j]) for j in range(frame.shape[1])]
        columns = tuple(zip(map(str, frame.columns), looks))
        return cls(columns, tuple(zip(*cells)), caption)


@dataclass(frozen=True)
class Folded:
    """A table of which only the first rows are open."""

    kind: ClassVar[str] = "folded"
    first: Table
    rest: Table


@dataclass(frozen=True)
class Drawing:
    """Inline markup of our own making (an object that templates do not escape)."""

    kind: ClassVar[str] = "drawing"
    markup: str
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A png, base64."""

    kind: ClassVar[str] = "picture"
    data: str
    alt: str
    caption: str = ""


Block = Heading | Paragraph | Code | Listing | Words | Cards | Answers | Table | Folded | Drawing | Picture


class Page:
    """Builds a report from top to bottom. All text is plain: it is escaped when the page is rendered."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._body: list[Block] = []

    def section(self, heading: str) -> None:
        """Start a section; it appears in the navigation line."""
        self._body.append(Heading(f"s{len(self._sections) + 1}", heading))

    def headline(self, sentence: str, *, refused: bool = False) -> None:
        """The one sentence a reader should take away; ``refused`` where there is no conclusion."""
        self._body.append(Paragraph(sentence, "headline refused" if refused else "headline"))

    def answers(self, answers: Iterable[tuple[str, str, str, str, bool]]) -> None:
        """Questions with their answers: (question, answer, evidence, title of its section, whether in doubt)."""
        told = [(q, a, e, title, "warn" if doubt else "note") for q, a, e, title, doubt in answers]
        self._body.append(Answers(tuple(told)))

    def text(self, paragraph: str) -> None:
        """A paragraph."""
        self._body.append(Paragraph(paragraph))

    def note(self, paragraph: str, *, warn: bool = False) -> None:
        """A highlighted paragraph; ``warn`` for what the reader should distrust."""
        self._body.append(Paragraph(paragraph, "warn" if warn else "note"))

    def code(self, text: str) -> None:
        """A command line."""
        self._body.append(Code(text))

    def listing(self, items: Iterable[str]) -> None:
        """A list of points."""
        self._body.append(Listing(tuple(items)))

    def words(self, meanings: Mapping[str, str]) -> None:
        """Words and what they mean."""
        self._body.append(Words(tuple(meanings.items())))

    def table(self, frame: pd.DataFrame, caption: str = "", *, digits: int = 4) -> None:
        """A table; floats with ``digits`` significant digits."""
        self._body.append(Table.of(frame, caption, digits))

    def folded(self, frame: pd.DataFrame, caption: str = "", most: int = 14) -> None:
        """A table of which only the first rows are open."""
        if len(frame) <= most + 4:
            self.table(frame, caption)
            return
        self._body.append(Folded(Table.of(frame.head(most), caption), Table.of(frame.iloc[most:])))

    def cards(self, cards: Sequence[tuple[str, str]]) -> None:
        """(value, label) pairs as boxes side by side."""
        self._body.append(Cards(tuple(cards)))

    def drawing(self, markup: str, caption: str = "") -> None:
        """Trusted markup of our own (an inline SVG with hover values, say)."""
        from markupsafe import Markup

        self._body.append(Drawing(Markup(markup), caption))

    def figure(self, figure: Figure, caption: str = "", *, kind: str = "svg", dpi: int = 110, alt: str = "") -> None:
        """A matplotlib figure, embedded as svg or, for many points, as png.

        Args:
            figure: what to embed; an svg that would be larger than its picture needs becomes a png.
            caption: below it.
            kind, dpi: "svg" or "png", and the resolution of the latter.
            alt: what it shows, for those who cannot see it; default the caption, else the section's heading.
        """
        told = alt or caption or (self._sections[-1].text if self._sections else self.title)
        name = f"f{sum(isinstance(b, Drawing | Picture) for b in self._body) + 1}"
        svg, png = embedded(figure, kind=kind, dpi=dpi, name=name, alt=told)
        if png:
            self._body.append(Picture(png, told, caption))
        else:
            self.drawing(svg, caption)

    def render(self) -> str:
        """The whole document."""
        from jaxland import __version__

        return (
            templates()
            .get_template("page.html.j2")
            .render(
                title=self.title,
                subtitle=self.subtitle,
                sections=[(s.anchor, s.text) for s in self._sections],
                body=[self._linked(block) for block in self._body],
                version=__version__,
                made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            )
        )

    def save(self, path: str | Path) -> Path:
        """Write the document, whole or not at all; returns its path.

        Raises:
            StoreError: the place cannot be written.
        """
        return write_whole(path, self.render())

    def _linked(self, block: Block) -> Block:
        """Answers point to sections by title; those that are there get a link."""
        if not isinstance(block, Answers):
            return block
        anchors = {s.text: s.anchor for s in self._sections}
        return Answers(tuple((q, a, e, anchors.get(title, ""), tone) for q, a, e, title, tone in block.answers))

    @property
    def _sections(self) -> list[Heading]:
        return [block for block in self._body if isinstance(block, Heading)]


def _cell(value: object, digits: int) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return "–"
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.{digits}g}"
    return str(value)


def _is_numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype))


def _look(cells: Sequence[str]) -> str:
    """Text that reads as numbers is set like numbers."""
    if any(len(cell) > LONG for cell in cells):
        return "long"
    return "n" if cells and all(NUMBER.fullmatch(cell) for cell in cells) else ""
