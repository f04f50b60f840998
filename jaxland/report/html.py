"""One self-contained HTML file: headings, text, tables, figures. No scripts from elsewhere, no files beside it."""

from __future__ import annotations

import base64
import datetime
import html
import io
from pathlib import Path
from typing import Any

import pandas as pd

STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--back:#fbfcfd;--accent:#1f5f99}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1060px;margin:0 auto;padding:2rem 1.5rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0}h2{margin:2.4rem 0 .6rem;border-bottom:1px solid var(--line)}
p.sub{color:var(--soft);margin:.2rem 0 1.2rem}nav a{margin-right:1rem;color:var(--accent);text-decoration:none}
figure{margin:1.2rem 0;background:#fff;border:1px solid var(--line);border-radius:8px;padding:.8rem}
figure svg,figure img{max-width:100%;height:auto;display:block;margin:auto}
figcaption{color:var(--soft);font-size:.9rem}
.wrap{overflow-x:auto;background:#fff;border:1px solid var(--line);border-radius:8px;margin:1rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .7rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}thead th{background:#f1f4f7}
caption{caption-side:bottom;color:var(--soft)}
.note{border-left:4px solid var(--accent);background:#eef4fa;padding:.6rem 1rem;border-radius:0 8px 8px 0}
.warn{border-left-color:#b3541e;background:#fbf1ea}
code{background:#eef1f4;padding:.1em .3em;border-radius:4px}footer{color:var(--soft);font-size:.85rem;margin-top:3rem}
"""


class Page:
    """Builds a report from top to bottom. Text is escaped unless a method says otherwise."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title, self.subtitle = title, subtitle
        self._sections: list[tuple[str, str]] = []
        self._body: list[str] = []

    def section(self, heading: str) -> None:
        """Start a section; it appears in the navigation line."""
        anchor = f"s{len(self._sections) + 1}"
        self._sections.append((anchor, heading))
        self._body.append(f'<h2 id="{anchor}">{html.escape(heading)}</h2>')

    def text(self, paragraph: str) -> None:
        """A paragraph."""
        self._body.append(f"<p>{html.escape(paragraph)}</p>")

    def note(self, paragraph: str, *, warn: bool = False) -> None:
        """A highlighted paragraph; ``warn`` for what the reader should distrust."""
        self._body.append(f'<p class="note{" warn" if warn else ""}">{html.escape(paragraph)}</p>')

    def raw(self, markup: str) -> None:
        """Trusted markup as it is (an inline SVG with hover values, say)."""
        self._body.append(markup)

    def table(self, frame: pd.DataFrame, caption: str = "", *, digits: int = 4, index: bool = False) -> None:
        """A table; floats with ``digits`` significant digits."""
        markup = frame.to_html(
            index=index, border=0, escape=True, na_rep="–", float_format=lambda v: f"{v:.{digits}g}", justify="right"
        )
        note = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        self._body.append(f'<div class="wrap">{markup}</div>{note}')

    def folded(self, frame: pd.DataFrame, caption: str = "", most: int = 14) -> None:
        """A table of which only the first rows are open."""
        if len(frame) <= most + 4:
            self.table(frame, caption)
            return
        self.table(frame.head(most), caption)
        self.raw(f"<details><summary>The other {len(frame) - most} rows</summary>")
        self.table(frame.iloc[most:])
        self.raw("</details>")

    def cards(self, cards: list[tuple[str, str]]) -> None:
        """(value, label) pairs as boxes side by side."""
        boxes = "".join(
            '<div style="background:#fff;border:1px solid #dfe4ea;border-radius:8px;padding:.7rem 1rem;'
            f'min-width:8.5rem"><div style="font-size:1.45rem;font-weight:600">{html.escape(value)}</div>'
            f'<div style="color:#5b6675;font-size:.85rem">{html.escape(label)}</div></div>'
            for value, label in cards
        )
        self.raw(f'<div style="display:flex;flex-wrap:wrap;gap:.7rem;margin:1rem 0">{boxes}</div>')

    def figure(self, figure: Any, caption: str = "", *, kind: str = "svg", dpi: int = 110) -> None:
        """A matplotlib figure, embedded as svg or, for many points, as png."""
        buffer = io.BytesIO()
        plain = {"Creator": None, "Date": None} if kind == "svg" else None
        figure.savefig(buffer, format=kind, dpi=dpi, bbox_inches="tight", metadata=plain)
        if kind == "svg":
            text = buffer.getvalue().decode()
            markup = text[text.index("<svg") :]
        else:
            markup = f'<img alt="{html.escape(caption)}" src="data:image/png;base64,' + (
                base64.b64encode(buffer.getvalue()).decode() + '">'
            )
        self._body.append(f"<figure>{markup}<figcaption>{html.escape(caption)}</figcaption></figure>")

    def render(self) -> str:
        """The whole document."""
        from jaxland import __version__

        nav = "".join(f'<a href="#{a}">{html.escape(h)}</a>' for a, h in self._sections)
        when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(self.title)}</title>'
            f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>'
            f'<body><main><h1>{html.escape(self.title)}</h1><p class="sub">{html.escape(self.subtitle)}</p>'
            f"<nav>{nav}</nav>{''.join(self._body)}"
            f"<footer>jaxland {__version__} · {when}</footer></main></body></html>"
        )

    def save(self, path: str | Path) -> Path:
        """Write the document; returns its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.render(), encoding="utf-8")
        return path
