"""The command and the report, on a small saved network."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from jaxland import models, trim
from jaxland.cli import trim as command
from jaxland.errors import ArgumentError, DataError
from jaxland.options import command_line
from jaxland.report import trim as report
from jaxland.trim.options import TrimOptions

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)


def run(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    with command_line():
        return CliRunner().invoke(app, ["trim", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def files(tmp_path):
    model = models.mlp((16, 8, 2), "tanh", key=jax.random.key(0), dtype=jnp.float64)
    models.save(tmp_path / "model.npz", model)
    frame = pd.DataFrame(RNG.normal(size=(20, 16)), columns=[f"t{k}" for k in range(16)])
    frame.assign(y=RNG.integers(0, 2, 20)).to_csv(tmp_path / "signals.csv", index=False)
    np.savez(tmp_path / "signals.npz", x=frame.to_numpy())
    frame.to_csv(tmp_path / "bare.csv", index=False, header=False)
    return tmp_path


def test_command_writes_everything(files):
    out = files / "run"
    result = run(files / "model.npz", files / "signals.csv", "--labels", "y", "--method", "cd", "--out", out)
    assert result.exit_code == 0 and "contextual_decomposition: 20 inputs, " in result.output
    assert "of them predicted right, 9 players of rfft" in result.output
    scores = pd.read_csv(out / "scores.csv")
    assert len(scores) == 20 and list(scores.columns[4:6]) == ["k=0", "k=1"]
    assert {"profile.png", "inputs.png", "report.html", "summary.csv", "knock_out.csv"} <= {
        p.name for p in out.iterdir()
    }
    page = (out / "report.html").read_text()
    assert (
        "Completeness" in page
        and "Evidence" in page
        and "nan" not in page.split("</style>")[1].lower().split("<svg")[0]
    )


def test_other_transforms_and_inputs(files):
    for transform, data in (("haar", "bare.csv"), ("pca:4", "signals.npz"), ("dct", "bare.csv")):
        result = run(
            files / "model.npz", files / data, "--transform", transform, "--out", files / transform[:3], "--rows", 8
        )
        assert result.exit_code == 0 and "8 inputs" in result.output


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (
            ["signals.csv"],
            ArgumentError,
            "one more than mlp 16-8-2 tanh takes: name the one that is no input with --labels",
        ),
        (["nope.csv"], DataError, "does not exist"),
        (["signals.csv", "--labels", "z"], DataError, "no column 'z'"),
        (["bare.csv", "--transform", "laplace"], ArgumentError, "unknown; choose"),
        (["bare.csv", "--transform", "dct", "--bands", "3"], ArgumentError, "--bands goes with"),
        (["bare.csv", "--transform", "identity", "--axes", "0"], ArgumentError, "--axes goes with"),
        (["bare.csv", "--transform", "dct", "--axes", "x"], ArgumentError, "--axes takes whole numbers"),
        (["bare.csv", "--transform", "dct", "--axes", "1"], ArgumentError, "axes of dct"),
        (["bare.csv", "--baseline", "median"], ArgumentError, "--baseline must be one of zero, mean"),
        (["bare.csv", "--target", "7"], ArgumentError, "out of range"),
    ],
)
def test_bad_input(files, arguments, error, match):
    with pytest.raises(error, match=match):
        run(files / "model.npz", files / arguments[0], *arguments[1:], "--out", files / "x")


def test_figures_of_many_and_few_players(tmp_path):
    for n in (8, 80):
        f = lambda x: jnp.tanh(x).sum(1)  # noqa: E731
        r = trim.attribute(f, RNG.normal(size=(6, n)), transform=trim.dct(n))
        report.write(
            tmp_path / str(n), report.page(r, spectrum=trim.power(r)), {"p": report.profile(r), "h": report.heat(r)}
        )
        assert (tmp_path / str(n) / "p.png").stat().st_size > 5000
    t = trim.pca(RNG.normal(size=(30, 8)), 3)
    r = trim.attribute(lambda x: x.sum(1), RNG.normal(size=(6, 8)), transform=t, residual="player")
    assert trim.power(r).shape == (4,)


def test_identity_names_the_features():
    x = np.zeros((3, 2))
    asked = TrimOptions(transform="identity").keywords(x, features=("age", "site=b"))
    assert asked["labels"] == ("age", "site=b") and "groups" not in asked
    assert "labels" not in TrimOptions(transform="identity").keywords(x, features=("age",))
