"""One paper's page: Markdown with a table *published / ours / why different*, tables and figures beside it."""

from __future__ import annotations

import io
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

import jaxland
from jaxland.report import figures

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "papers"
DATA = Path(os.environ.get("JAXLAND_DATA", ROOT.parent / "shared" / "data"))
LARGEST = 150_000  # bytes of a figure
SMALL = (
    "**Small settings**: this page only shows that the chapter runs. Nothing on it says anything about the paper; "
    "run without `--small`."
)


def shared(name: str) -> Path | None:
    """A file that is not in the repository, where ``--data`` (or JAXLAND_DATA) has it."""
    path = Path(os.environ.get("JAXLAND_DATA", DATA)) / name
    return path if path.exists() else None


def number(value: object, digits: int = 3) -> str:
    """A number as a table shows it: ``digits`` significant ones; texts as they are, None and NaN as a dash."""
    if value is None or value != value:
        return "–"
    if isinstance(value, (float, np.floating)):
        return f"{value:.{digits}g}" if abs(value) < 1e6 else f"{value:.{digits - 1}e}"
    return str(value)


@dataclass
class Page:
    """A page under construction, ``<out>/<chapter>.md``; figures are written when they are added.

    Attributes:
        chapter: its name on the command line; out: the folder; title, source: of the paper.
        small, seed: the settings; cost: CPU and wall seconds, filled in by the command.
    """

    chapter: str
    out: Path
    title: str
    source: str
    small: bool
    seed: int
    cost: tuple[float, float] | None = None
    parts: list[str] = field(default_factory=list)

    def text(self, markdown: str) -> None:
        """A paragraph."""
        self.parts.append(markdown.strip())

    def section(self, title: str) -> None:
        """A heading; what stands above it is written, so that a chapter that is stopped leaves what it finished."""
        if self.parts:
            self.save()
        self.parts.append(f"## {title}")

    def compare(self, rows: list[tuple[str, object, object, str]], caption: str = "") -> None:
        """The table of quantities: (what, published, ours, why different or "" where they agree)."""
        frame = pd.DataFrame(rows, columns=["quantity", "published", "ours", "why different"])
        self.table(frame, caption)

    def table(self, frame: pd.DataFrame, caption: str = "", digits: int = 3) -> None:
        """A table without its index (``reset_index`` keeps it), floats to ``digits`` significant digits."""
        cells = [[number(v, digits).replace("|", "\\|") for v in row] for row in frame.itertuples(index=False)]
        lines = [[str(name).replace("|", "\\|") for name in frame.columns], ["---"] * frame.shape[1], *cells]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        self.parts.append(f"{caption}\n\n{body}" if caption else body)

    def figure(self, figure: Figure, name: str, caption: str) -> None:
        """Write ``<chapter>_<name>.png``, at most LARGEST bytes, and show it."""
        path = self.out / f"{self.chapter}_{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(figure))
        self.parts.append(f"![{name}]({path.name})\n\n{caption}")

    def save(self) -> Path:
        """Write the page."""
        where = f"python -m examples.papers {self.chapter}{' --small' if self.small else ''} --seed {self.seed}"
        made = f"Every number of ours, unless another command stands beside it: `{where}`"
        if self.cost:
            made += f" ({self.cost[0]:.0f} CPU s, {self.cost[1]:.0f} s"
            made += f"; jaxland {jaxland.__version__}, jax {jax.__version__}, {platform.machine()} CPU)"
        head = [f"# {self.title}", f"Source: {self.source}", made + "."] + [SMALL] * self.small
        path = self.out / f"{self.chapter}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join(head + self.parts) + "\n")
        return path


def png(figure: Figure) -> bytes:
    """The figure as PNG, resolution and colours reduced until it is at most LARGEST bytes."""
    for dpi in (120, 100, 80, 60):
        raw = io.BytesIO()
        with rc_context(figures.STYLE):
            figure.savefig(raw, format="png", dpi=dpi, bbox_inches="tight")
        packed = io.BytesIO()
        Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
        if packed.tell() <= LARGEST:
            break
    return packed.getvalue()
