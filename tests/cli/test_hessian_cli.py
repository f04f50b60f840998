import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jaxland import mlp
from jaxland.data.options import TableOptions
from jaxland.errors import DataError
from jaxland.models import save
from jaxland.runs import read_npz

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model file with its facts, and tables with columns and classes in another order."""
    folder = tmp_path_factory.mktemp("hessian")
    x = RNG.normal(size=(60, 3))
    names = np.where(x[:, 0] + 0.3 * x[:, 1] > 0, "yes", "no")
    frame = pd.DataFrame({"c": x[:, 2], "answer": names, "a": x[:, 0], "b": x[:, 1]})
    frame[:40].to_csv(folder / "train.csv", index=False)
    frame[40:].to_csv(folder / "test.csv", index=False)
    facts = {"features": ["a", "b", "c"], "classes": ["no", "yes"], "target": "answer", "loss": "cross_entropy"}
    save(folder / "model.npz", mlp((3, 3, 2)), l2=0.1, centre=[0.0, 0.0, 1.0], scale=[1.0, 2.0, 1.0], **facts)
    return folder, x, names


def command(*arguments):
    import typer

    from jaxland.cli import hessian

    app = typer.Typer()
    app.callback()(lambda: None)
    hessian.register(app)
    return CliRunner().invoke(app, ["hessian", *map(str, arguments)])


def test_the_command_writes_tables_figures_and_a_report(x64, files, tmp_path):
    folder, _, _ = files
    done = command(folder / "model.npz", folder / "train.csv", "--test", folder / "test.csv", "--out", tmp_path / "o")
    assert done.exit_code == 0, done.output
    assert "report:" in done.output and "warning: not a stationary point" in done.output
    report = (tmp_path / "o" / "report.html").read_text()
    for heading in (
        "Curvature",
        "Spectrum",
        "Predictions",
        "What the predictions rest on",
        "Training rows to look at",
    ):
        assert heading in report
    assert len(pd.read_csv(tmp_path / "o" / "predictions.csv")) == 20
    assert len(pd.read_csv(tmp_path / "o" / "self_influence.csv")) == 40
    assert len(pd.read_csv(tmp_path / "o" / "spectrum.csv")) == 20
    assert (tmp_path / "o" / "density.png").stat().st_size > 5000
    head, _ = read_npz(tmp_path / "o" / "curvature.npz", "jaxland-curvature-1")
    assert head["method"] == "explicit"


def test_tables_come_in_the_models_order_and_units(files):
    from dataclasses import replace

    from jaxland.cli.hessian import parts
    from jaxland.cli.opening import opened
    from jaxland.data import Preparation

    folder, x, names = files
    train, test, table = str(folder / "train.csv"), str(folder / "test.csv"), TableOptions(target="answer")
    source = opened(str(folder / "model.npz"))
    rows, queries = parts(source, train, test, table)
    np.testing.assert_allclose(np.r_[rows.x, queries.x], (x - [0, 0, 1]) / [1, 2, 1])
    assert rows.classes == ("no", "yes") and list(np.r_[rows.y, queries.y]) == list((names == "yes").astype(int))
    for changes, match in (
        ({"features": ["a", "b", "d"]}, "lacks 1 of the model's 3 columns: d"),
        ({"classes": ["yes", "maybe"]}, "does not know the class 'no'"),
    ):
        other = replace(source, preparation=Preparation.of_model({**source.facts, **changes}))
        with pytest.raises(DataError, match=match):
            parts(other, train, None, table)
    with pytest.raises(DataError, match="does not exist"):
        parts(source, str(folder / "none.csv"), test, table)
