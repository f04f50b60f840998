"""tests/ mirrors jaxland/; what the pages and examples name exists."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"benchmarks", "docs", "examples", "packaging"}
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


def resolve(tree):
    """Import what a piece of code imports of jaxland, names and all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaxland":
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "jaxland":
                    importlib.import_module(name.name)


def test_tests_mirror_the_package():
    astray = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("test_*.py")
        if (place := path.parent.relative_to(ROOT / "tests")).parts[:1] not in [(name,) for name in OWN]
        and not (ROOT / "jaxland" / place).is_dir()
    ]
    assert not astray


@pytest.mark.parametrize("block", BLOCKS)
def test_code_of_the_pages(block):
    """It compiles, and what it imports of jaxland is there."""
    resolve(ast.parse(block))


@pytest.mark.parametrize("script", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.name)
def test_imports_of_the_examples(script):
    resolve(ast.parse(script.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_is_there(page):
    """Relative links, files of the tree in `...`, and dotted names below jaxland."""
    text = page.read_text()
    for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text):
        assert (page.parent / link).exists(), link
    if page.name == "CHANGELOG.md":  # earlier versions had other places
        return
    for path in re.findall(r"`([\w/]+\.py)\b", text):
        places = (ROOT, ROOT / "jaxland", ROOT / "benchmarks")
        assert any((place / path).exists() for place in places), path
    for dotted in set(re.findall(r"`(jaxland(?!\.sha256)(?:\.\w+)+)", text)):
        parts = dotted.split(".")
        thing = importlib.import_module("jaxland")
        for k, part in enumerate(parts[1:], start=2):
            if not hasattr(thing, part):
                importlib.import_module(".".join(parts[:k]))
            thing = getattr(thing, part)
