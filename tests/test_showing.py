"""Records and figures show themselves in a notebook; progress goes to any listener."""

import numpy as np
import pytest

from jaxland import Problem, landscape, mlp, progress, trim
from jaxland.data import load
from jaxland.report.trim import profile


def test_records_are_short():
    data = load("checkerboard", n=200)
    split = data.split(0.3, scale="standardise")
    problem = Problem.from_model(mlp((2, 3, 2)), split.train.x, split.train.y)
    found = trim.attribute(problem.model, np.asarray(split.test.x[:20], np.float32))
    for record in (data, split, split.train.scaling, problem, problem.model, found, trim.deletion(found)):
        assert len(repr(record)) < 300 and "array(" not in repr(record)
        assert "<" in record._repr_html_()
    assert repr(split).startswith("Split(train=Dataset(...), test=Dataset(...), train_rows=int64[140]")
    assert profile(found)._repr_png_().startswith(b"\x89PNG")


def test_progress_reaches_any_logger():
    told, steps = [], []
    tell = progress.each(progress.scalars(lambda *row: told.append(row), "search"), steps.append)
    problem = Problem.from_energy(lambda w: ((w**2 - 1) ** 2).sum() + 0.1 * w[0], 2, dtype="float64")
    landscape.explore(problem, minima=2, rounds=2, progress=tell)
    tags = {tag for tag, _, _ in told}
    assert {"search/minima", "search/best"} <= tags and len(steps) == max(step for _, _, step in told) + 1


def test_a_bar(capsys):
    pytest.importorskip("tqdm", reason="tqdm is not installed (extra: notebook)")
    tell = progress.bar("trim")
    for k in range(1, 4):
        tell(k, 3)
    assert "trim: 100%" in capsys.readouterr().err
