"""The papers made again: every chapter runs with small settings and its page shows what it names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.papers.__main__ import CHAPTERS
from examples.papers.page import LARGEST, Page, png
from jaxland.report import figures

ROOT = Path(__file__).parents[2]


def test_page_keeps_numbers_and_figures(tmp_path):
    page = Page("trial", tmp_path, "A paper", "Someone 2020", small=False, seed=3)
    page.compare([("errors of |a|, %", 0.4, 1.23456, "another network"), ("accuracy", None, "9 of 10", "")])
    figure, axes = figures.canvas()
    axes.plot([0, 1], [1, 0])
    page.figure(figure, "line", "A line.")
    text = page.save().read_text()
    assert "| errors of \\|a\\|, % | 0.4 | 1.23 | another network |" in text and "| accuracy | – | 9 of 10 |" in text
    assert "--seed 3" in text and "![line](trial_line.png)" in text
    assert (tmp_path / "trial_line.png").read_bytes()[:4] == b"\x89PNG"


def test_large_figures_are_reduced():
    figure, axes = figures.canvas(8, 5)
    axes.imshow(np.random.default_rng(0).random((400, 600)), aspect="auto")
    assert len(png(figure)) <= LARGEST


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_with_small_settings(name, tmp_path):
    # As a user runs it: JAX's own promotion rules.
    env = {key: value for key, value in os.environ.items() if not key.startswith("JAX_NUMPY_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "examples.papers", name, "--small", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    text = (tmp_path / f"{name}.md").read_text()
    shown = re.findall(r"!\[\w+\]\(([\w.]+)\)", text)
    assert shown and all((tmp_path / path).stat().st_size <= LARGEST for path in shown)
    assert "| quantity | published | ours | why different |" in text and "--small --seed 0" in text
    assert not re.search(r"\bnan\b|\binf\b", text)
