"""A page is one file: escaped, self-contained, with unique ids and words for every picture."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from jaxland.errors import StoreError
from jaxland.landscape.result import Landscape
from jaxland.report.embed import MOST_SVG, themed
from jaxland.report.figures import PALETTE, canvas
from jaxland.report.html import Page
from jaxland.report.imported import imported_report

VOID = {"meta", "img", "br", "input", "rect", "path", "use", "line", "link"}


class Reader(HTMLParser):
    """Tags in order, checked to nest; text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.said = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.said.append(data)


def figure(lines=3):
    drawn, axes = canvas(3, 2)
    for k in range(lines):
        axes.plot([0, 1, 2], [k, k * k, 1], color=PALETTE[k % 3], marker="o")
    return drawn


def page():
    out = Page("<Title> & more", "a & b")
    out.section("First <section>")
    out.text("1 < 2")
    out.note("mind <this>", warn=True)
    out.code("jaxland explore 'a b' && <x>")
    out.listing(["<one>", "two"])
    out.words({"<word>": "its & meaning"})
    out.cards([("<3>", "label & more")])
    out.table(pd.DataFrame({"<a>": [1.23456789, np.nan], "b": ["<x>", None], "c": [True, False]}), "caption <c>")
    out.folded(pd.DataFrame({"k": range(40)}), "folded", most=10)
    out.figure(figure(), 'a "caption" & more')
    out.figure(figure(), alt="what it shows")
    out.figure(figure(), kind="png")
    return out


def test_everything_is_escaped_and_nests():
    text = page().render()
    read = Reader(text)
    said = " ".join(read.said)
    for words in ("<Title> & more", "1 < 2", "<this>", "&& <x>", "<one>", "<word>", "<3>", "<a>", "<x>", "1.235"):
        assert words in said
    assert "nan" not in said and "None" not in said and "–" in read.said
    assert "The other 30 rows" in said
    assert [a["id"] for tag, a in read.tags if tag == "h2"] == ["s1"]


def test_ids_are_unique_and_what_is_referred_to_is_there():
    text = page().render()
    ids = [a["id"] for _, a in Reader(text).tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert used and used <= set(ids)


def test_pictures_have_words_and_nothing_is_loaded():
    text = page().render()
    read = Reader(text)
    told = [a.get("alt") or a.get("aria-label") for tag, a in read.tags if tag in ("img", "svg")]
    assert told == ['a "caption" & more', "what it shows", "First <section>"]
    assert not re.search(r"(src|href)=.(https?:)?//|url\(.?http|<link|@import|<iframe", text)
    assert "prefers-color-scheme:dark" in text and "@media print" in text and "width=device-width" in text


def test_colours_follow_the_page():
    text = page().render()
    assert themed(PALETTE[1]) == f"var(--c1,{PALETTE[1]})" and themed("#123456") == "#123456"
    assert f"var(--c0,{PALETTE[0]})" in text and "var(--paper,#ffffff)" in text
    variables = set(re.findall(r"var\(--(\w+)", text))
    assert variables <= set(re.findall(r"--(\w+):", text.split("</style>")[0]))


def test_a_picture_whose_colours_stand_for_numbers_keeps_them():
    drawn, axes = canvas(3, 2)
    drawn.colorbar(axes.imshow(np.eye(3)), ax=axes)
    out = Page("t")
    out.figure(drawn, "a map")
    assert "var(--" not in out.render().split("<svg")[1]


def test_a_large_figure_becomes_a_picture():
    out = Page("t")
    out.figure(figure(1200), "many lines")
    text = out.render()
    assert "data:image/png;base64" in text and len(text) < MOST_SVG


@pytest.mark.parametrize("m", [50, 12_000])
def test_reports_of_many_minima_stay_small(tmp_path, m):
    rng = np.random.default_rng(0)
    energies = rng.exponential(1.0, m)
    ends = rng.integers(0, m, (2 * m, 2))
    heights = energies[ends].max(1) + rng.exponential(0.3, 2 * m)
    land = Landscape.from_points(energies, rng.normal(size=(m, 2)), heights, ends)
    text = imported_report(land, tmp_path).read_text()
    Reader(text)
    assert len(text) < 2_000_000 and text.count("<title>") > m**0.5


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        page().save(tmp_path / "file" / "report.html")
    path = page().save(tmp_path / "new" / "report.html")
    assert path.read_text().endswith("</html>") and [p.name for p in path.parent.iterdir()] == ["report.html"]
