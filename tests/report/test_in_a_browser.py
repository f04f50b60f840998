"""Reports in a real browser: no overflow, no error, legible in dark and print, and a graph that answers."""

import numpy as np
import pytest
from report_pages import PAGES, write

from jaxland.landscape.result import Landscape
from jaxland.report.imported import imported_report

browser = pytest.importorskip("browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium (Debian's package chromium)"),
]
WIDE = """(() => {
  const w = document.documentElement.clientWidth
  const free = e => !e.closest('.wrap, .wide, svg, pre')
  const out = [...document.querySelectorAll('body *')].filter(e => free(e) && e.getBoundingClientRect().right > w + 1)
  return [document.documentElement.scrollWidth - w, out.map(e => e.tagName + '.' + e.className)]
})()"""
# Smallest size of text as it is seen, and least contrast of text with what is behind it.
SMALL = """Math.min(...[...document.querySelectorAll(
    'p, li, td, th, dd, figcaption, label, svg.disconnectivity text')]
  .filter(e => e.textContent.trim() && e.getBoundingClientRect().width)
  .map(e => parseFloat(getComputedStyle(e).fontSize) * (e.ownerSVGElement
    ? e.ownerSVGElement.getBoundingClientRect().width / e.ownerSVGElement.viewBox.baseVal.width : 1)))"""
CONTRAST = """(() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number)
  const light = c => { const l = c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92
    : Math.pow((v + .055) / 1.055, 2.4)); return .2126 * l[0] + .7152 * l[1] + .0722 * l[2] }
  const behind = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor)
    if (c.length < 4 || c[3] > 0) return c } return [255, 255, 255] }
  return Math.min(...[...document.querySelectorAll('p, li, td, th, dd, figcaption, h1, h2, h3, a, label')]
    .filter(e => e.textContent.trim() && e.getBoundingClientRect().width).map(e => {
      const a = light(parts(getComputedStyle(e).color)), b = light(behind(e))
      return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) }))
})()"""


@pytest.fixture(scope="module")
def tab():
    made = browser.Browser()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {name: write(name, folder / name) for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_every_width_and_medium(tab, pages, name, tmp_path):
    assert pages[name].stat().st_size < 2_000_000
    for width, dark, printed in [(1280, False, False), (820, False, False), (375, False, False), (1280, True, False),
                                 (375, True, False), (794, False, True)]:  # fmt: skip
        tab.errors.clear()
        tab.look(width, dark=dark, printed=printed)
        tab.open(pages[name])
        assert tab.ask(WIDE) == [0, []], (width, dark, printed)
        assert tab.errors == []
        if not printed:
            assert tab.ask(SMALL) >= 10.5
            assert tab.ask(CONTRAST) >= 4.5
        picture = tmp_path / f"{width}-{dark}-{printed}.png"
        tab.shot(picture)
        assert picture.stat().st_size > 20_000
    ids = tab.ask("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    told = tab.ask("[...document.querySelectorAll('img, svg')].map(e => e.alt || e.getAttribute('aria-label'))")
    assert all(told)


@pytest.mark.parametrize("name", PAGES)
def test_print_cuts_nothing(tab, pages, name):
    tab.look(794, 1123, printed=True)
    tab.open(pages[name])
    cut = """[...document.querySelectorAll('.wrap, .wide')].filter(e => e.scrollWidth > e.clientWidth + 1)
      .map(e => e.textContent.slice(0, 40))"""
    assert tab.ask(cut) == []
    closed = tab.ask(
        "dispatchEvent(new Event('beforeprint')), document.querySelectorAll('details:not([open])').length"
    )
    assert closed == 0
    assert tab.pdf().startswith(b"%PDF")


def at(tab, part):
    """Centre of the foot of a line: where the branch of a position in the data is drawn."""
    return tab.ask(f"(() => {{const c = document.querySelector('{part}').getBoundingClientRect(); "
                   "return [c.x + c.width / 2, c.y + c.height / 2]})()")  # fmt: skip


def test_the_graph_answers_to_mouse_keyboard_and_search(tab, pages):
    tab.errors.clear()
    tab.look(1280, 1000)
    tab.open(pages["explore"])
    said = "document.querySelector('.dg-said').textContent"
    find = "document.querySelector('.dg-find')"
    tab.ask(f"{find}.value = 'minimum 3', {find}.dispatchEvent(new Event('change')), 0")
    assert "Minimum 3" in tab.ask(said) and "disagree most" in tab.ask(said) and "best: " in tab.ask(said)
    tab.ask(f"{find}.value = '999999', {find}.dispatchEvent(new Event('change')), 0")
    assert "not among" in tab.ask(said)
    tab.ask("document.querySelector('[data-do=all]').click(), document.querySelector('.dg svg').focus(), 0")
    tab.press("ArrowDown")
    assert "Group" in tab.ask(said) or "Minimum" in tab.ask(said)
    for _ in range(60):
        tab.press("ArrowDown")
    assert "Minimum 0" in tab.ask(said)
    tab.ask("document.querySelector('.dg svg').scrollIntoView({block: 'center'}), 0")
    x, y = at(tab, ".dg circle.chosen")
    tab.ask("document.querySelector('[data-do=all]').click(), 0")
    x, y = tab.ask("(() => {const p = document.querySelector('.dg svg').getBoundingClientRect(); "
                   f"return [p.x + p.width / 2, Math.min({y}, p.bottom - 30)]}})()") if not x else (x, y)  # fmt: skip
    tab.click(x, y)
    assert "Minimum" in tab.ask(said) or "Group" in tab.ask(said)
    lines = "document.querySelectorAll('.dg svg path').length + document.querySelector('.dg svg').innerHTML.length"
    whole = tab.ask(lines)
    tab.ask(
        "(() => {const l = document.querySelector('.dg-level'); l.value = 3; l.dispatchEvent(new Event('input'))})()"
    )
    assert tab.ask("document.querySelectorAll('.dg .wedge').length") >= 1 and tab.ask(lines) < whole
    assert "3 of" in tab.ask("document.querySelector('.dg-level-said').textContent")
    colour = "document.querySelector('.dg-colour')"
    tab.ask(f"{colour}.selectedIndex = 1, {colour}.dispatchEvent(new Event('change')), 0")
    assert tab.ask("document.querySelectorAll('.dg svg rect').length") > 20
    assert tab.errors == []


def test_a_hundred_thousand_minima_are_a_page_that_can_be_read(tab, tmp_path):
    rng = np.random.default_rng(0)
    m = 100_000
    energies = np.sort(rng.exponential(1.0, m))
    ends = np.stack([np.arange(1, m), (rng.uniform(size=m - 1) ** 2 * np.arange(1, m)).astype(int)], 1)
    heights = energies[ends].max(1) + rng.exponential(0.3, m - 1)
    path = imported_report(Landscape.from_points(energies, np.zeros((m, 1)), heights, ends), tmp_path)
    assert path.stat().st_size < 2_000_000
    tab.errors.clear()
    tab.look(1280, 1000)
    tab.open(path)
    drawn = tab.ask("document.querySelector('.dg svg').innerHTML.length")
    assert 1_000 < drawn < 800_000
    assert "shallower minima not drawn" in tab.ask("document.querySelector('.dg svg').textContent")
    took = tab.ask("(() => {const t = performance.now(); document.querySelector('.dg-count').value = 200; "
                   "document.querySelector('.dg-count').dispatchEvent(new Event('input')); "
                   "return performance.now() - t})()")  # fmt: skip
    assert took < 2000 and tab.errors == []
    tab.shot(tmp_path / "many.png")
