"""What the pages say can be done: commands are known, Python blocks run, the site builds and loads nothing."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from readers import READERS

from jaxland.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = r"^```python\n(.*?)^```"
RUN = [page for page in PAGES if re.search(PYTHON, page.read_text(), flags=re.M | re.S)]


def said(path):
    """Command lines of a page: indented ones, and those in tables."""
    text = path.read_text()
    lines = re.findall(r"^    (jaxland .*)$", text, flags=re.M) + re.findall(r"`(jaxland [a-z][^`]*)`", text)
    return [line.split("  #")[0].strip() for line in lines]


COMMANDS = sorted({(path.name, line) for path in PAGES for line in said(path)})


@pytest.mark.parametrize("page, line", COMMANDS)
def test_commands_of_the_pages_are_known_with_their_options(page, line):
    group = typer.main.get_group(app)
    name, *rest = shlex.split(line)[1:]
    if name.startswith("-"):
        assert name in ("--version", "--help", "--install-completion", "--show-completion")
        return
    command = group.get_command(typer.Context(group), name)
    known = {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
    given = [word.split("=")[0] for word in rest if word.startswith("--")]
    assert not set(given) - known - {"--help"}, (page, line)


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN, ids=lambda path: path.name)
def test_python_of_the_pages_runs(path, tmp_path):
    blocks = re.findall(PYTHON, path.read_text(), flags=re.M | re.S)
    reader, names = READERS[path.name]
    (tmp_path / "reader.py").write_text(reader)
    given = f"from reader import {names}" if names else ""
    (tmp_path / "page.py").write_text("\n".join([given, *blocks]))
    # What a page makes by itself it makes in its own precision; what it is handed was made in a session of float64.
    env = {**os.environ, "JAX_ENABLE_X64": "1"} if reader else {**os.environ}
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() or path.name not in ("README.md", "tutorial.md")


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    loaded = re.compile(
        r"""<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//|<link[^>]*(?:stylesheet|preconnect)[^>]*//"""
    )
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    assert not [page.name for page in pages if loaded.search(page.read_text())]
    assert "--time-limit" in (tmp_path / "reference" / "commands.html").read_text()


@pytest.mark.slow
def test_the_picture_of_the_readme_is_the_one_that_the_demo_draws(tmp_path):
    import numpy as np
    from PIL import Image

    command = [sys.executable, "-m", "jaxland", "explore", "checkerboard", "--quiet", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    drawn, shown = (np.asarray(Image.open(p).convert("L"), float) for p in (
        tmp_path / "disconnectivity.png", ROOT / "docs/checkerboard.png"))  # fmt: skip
    assert drawn.shape == shown.shape
    assert np.mean(np.abs(drawn - shown) > 64) < 0.01
