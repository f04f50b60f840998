"""A matplotlib figure inside a page: its ids made unique, its greys and palette following light and dark."""

from __future__ import annotations

import base64
import io
import re
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure

from jaxland.report.figures import PALETTE, STYLE

# An svg beyond so many characters is embedded as png: pages stay below 2 MB.
MOST_SVG = 300_000

_COLOURS = {
    "#000000": "ink", "#1c2430": "ink", "#111111": "ink", "#333333": "ink", "#404040": "ink",
    "#5b6675": "soft", "#6b7684": "soft", "#666666": "soft", "#808080": "soft", "#888888": "soft",
    "#48525f": "plain", "#a9b1bb": "muted", "#9aa3ae": "muted", "#9aa3ad": "muted", "#8a97a6": "muted",
    "#999999": "muted", "#c3c9d1": "faint", "#c9ced6": "faint", "#d5dbe2": "faint", "#c3ccd6": "faint",
    "#b3b3b3": "faint", "#b2b2b2": "faint", "#c9d6e4": "faint", "#cccccc": "faint",
    "#dfe4ea": "line", "#edf0f3": "rule", "#ffffff": "paper", "#f4f6f8": "head",
    **{colour: f"c{k}" for k, colour in enumerate(PALETTE)},
}  # fmt: skip


def themed(colour: str) -> str:
    """A colour as the page's variable of that role, where it has one; else as it is."""
    name = _COLOURS.get(colour.lower())
    return colour if name is None else f"var(--{name},{colour})"


def embedded(figure: Figure, *, kind: str, dpi: int, name: str, alt: str) -> tuple[str, str]:
    """(svg markup, "") or ("", png in base64); the latter if ``kind`` says so or the svg is too large.

    Args:
        figure: what to embed.
        kind: "svg" or "png".
        dpi: of the png.
        name: prefix of all ids, unique in the page.
        alt: what it shows.
    """
    with rc_context(STYLE):
        if kind == "svg":
            text = io.StringIO()
            figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Creator": None, "Date": None})
            markup = _inlined(text.getvalue(), name, alt, light=_has_colour_scale(figure))
            if len(markup) <= MOST_SVG:
                return markup, ""
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=dpi, bbox_inches="tight")
    return "", base64.b64encode(data.getvalue()).decode()


def _has_colour_scale(figure: Figure) -> bool:
    """Whether colours stand for numbers: then they, and the paper they are seen on, stay as they are."""
    return any(axes.images or hasattr(axes, "_colorbar") for axes in figure.axes)


def _inlined(text: str, name: str, alt: str, *, light: bool) -> str:
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.S)
    ink = "#000" if light else "var(--ink,#000)"
    root = f'<svg role="img" aria-label="{escape(alt)}" style="stroke-linejoin:round;fill:{ink}"'
    text = text.replace("<svg", root, 1)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r'\sid="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", text)
    if not light:
        # Colours stand in style attributes as ``fill: #1c2430``.
        text = re.sub(r"(?<=: )#[0-9a-fA-F]{6}\b", lambda m: themed(m[0]), text)
    return re.sub(r"\n\s*", "\n", text)
