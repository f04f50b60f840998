"""Latent spaces: matrices of information, disentanglement, figures, the page and the command."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jaxland import information
from jaxland.errors import ArgumentError, DataError, JaxlandError
from jaxland.information.latents import InformationMatrix, summarise
from jaxland.report import information as drawing
from jaxland.report.information import disentanglement_figure, heat_map

QUICK = dict(bootstraps=8, null=2, starts=1, folds=2)


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    n = 500
    mass, kind = rng.normal(size=n), rng.integers(0, 3, n)
    latents = pd.DataFrame(
        {"a": mass + 0.4 * rng.normal(size=n), "b": kind + 0.2 * rng.normal(size=n), "c": rng.normal(size=n)}
    )
    factors = pd.DataFrame({"mass": mass, "kind": np.array(["disc", "bulge", "ring"])[kind]})
    return latents, factors


@pytest.fixture(scope="module")
def summary(tables):
    return information.disentanglement(*tables, **QUICK)


def test_association(summary):
    table = summary.association
    assert table.rows == ("a", "b", "c")
    assert table.columns == ("mass", "kind")
    assert table.categorical == (False, True)
    truth = -0.5 * np.log(1 - 1 / 1.16)
    assert abs(table.mean[0, 0] - truth) < 3 * table.std[0, 0]
    assert table.mean[1, 1] == pytest.approx(np.log(3), abs=0.1)
    assert np.all(table.mean[2] < 0.05)
    assert table.samples.shape == (3, 2, 8)
    assert np.isnan(table.entropy[0])
    assert table.entropy[1] == pytest.approx(np.log(3), abs=0.02)
    assert len(table.to_pandas()) == 6
    assert table.frame("std").shape == (3, 2)
    assert "±" in table._repr_html_()


def test_disentanglement(summary):
    assert summary.best == ("a", "b")
    lines = summary.to_pandas()
    assert list(lines["normalised by"]) == ["information", "entropy"]
    assert np.all(summary.mig > 0.8)
    assert np.all(summary.gap_std > 0)
    assert summary.shared < 0.03
    between = summary.between
    assert between.symmetric
    assert np.all(np.isnan(np.diag(between.mean)))
    np.testing.assert_array_equal(between.mean[0, 1], between.mean[1, 0])
    assert len(between.to_pandas()) == 3
    again = summarise(summary.association, between)
    np.testing.assert_array_equal(again.gap, summary.gap)
    assert "latents" in summary._repr_html_()


def test_arrays_and_names(tables):
    latents, factors = tables
    got = information.matrix(
        latents.to_numpy()[:, :2], factors["mass"].to_numpy(), latent_names=["p", "q"], factor_names=["m"], **QUICK
    )
    assert got.rows == ("p", "q")
    assert got.columns == ("m",)
    forced = information.matrix(
        latents[["b"]], {"kind": pd.factorize(factors["kind"])[0]}, categorical=["kind"], **QUICK
    )
    assert forced.categorical == (True,)


def test_infinite_pairs_do_not_stop_a_table(tables):
    latents, _ = tables
    doubled = latents[["a", "c"]].assign(copy=2 * latents["a"])
    got = information.matrix(doubled, **QUICK)
    assert got.mean[0, 2] == np.inf
    assert np.isfinite(got.mean[0, 1])
    drawing.heat_map(got)


def test_messages_name_the_column(tables):
    latents, factors = tables
    holed = factors.copy()
    holed.loc[3, "mass"] = np.nan
    with pytest.raises(DataError, match=r"mass has 1 non-finite.*row 3"):
        information.matrix(latents, holed, **QUICK)
    with pytest.raises(DataError, match="d is constant"):
        information.matrix(latents.assign(d=1.0), factors, **QUICK)
    with pytest.raises(DataError, match="499 of mass"):
        information.matrix(latents, factors[1:], **QUICK)
    with pytest.raises(ArgumentError, match="'colour', which is no factor"):
        information.matrix(latents, factors, categorical=["colour"], **QUICK)
    with pytest.raises(DataError, match="at least two latents"):
        information.matrix(latents[["a"]], **QUICK)
    with pytest.raises(DataError, match="names were given"):
        information.matrix(latents.to_numpy(), factors, latent_names=["a"], **QUICK)


def test_figures_and_page(summary, tmp_path):
    pair = summary.association.results[0][0]
    labelled = summary.association.results[1][1]
    for figure in (
        drawing.density_figure(pair),
        drawing.density_figure(labelled),
        drawing.diagnostics_figure(pair),
        drawing.heat_map(summary.association),
        drawing.heat_map(summary.between),
        drawing.disentanglement_figure(summary),
    ):
        path = tmp_path / "figure.png"
        figure.savefig(path)
        assert path.stat().st_size > 5_000
    page = drawing.information_report(
        summary.association,
        tmp_path / "r.html",
        between=summary.between,
        summary=summary,
        densities=1,
        command="a < b",
    )
    text = page.read_text()
    for words in ("Disentanglement", "Between latents", "a &lt; b", "Fitted densities", "<svg"):
        assert words in text
    assert 'src="http' not in text


def test_density_contours_of_vectors_use_the_first_columns(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 3))
    got = information.mutual_information(z[:, :2], z[:, 2] + z[:, 0], orders=2, **QUICK)
    drawing.density_figure(got).savefig(tmp_path / "v.png")


@pytest.fixture
def command():
    import typer

    from jaxland.cli import mi

    app = typer.Typer()
    app.callback()(lambda: None)
    mi.register(app)
    return lambda *words: CliRunner().invoke(app, ["mi", *map(str, words)])


def test_command(tables, tmp_path, command):
    latents, factors = tables
    latents.to_csv(tmp_path / "latents.csv", index=False)
    factors.to_csv(tmp_path / "factors.csv", index=False)
    out = tmp_path / "out"
    quick = ("--bootstraps", 4, "--null", 2, "--starts", 1, "--folds", 2)
    got = command(tmp_path / "latents.csv", "--against", tmp_path / "factors.csv", "--out", out, *quick)
    assert got.exit_code == 0, got.output
    assert "kind: carried by b" in got.output
    for name in (
        "report.html",
        "pairs.csv",
        "mean.csv",
        "std.csv",
        "information.png",
        "between.svg",
        "disentanglement.csv",
    ):
        assert (out / name).stat().st_size > 0
    assert pd.read_csv(out / "mean.csv", index_col=0).loc["b", "kind"] > 0.9
    alone = command(tmp_path / "latents.csv", "--out", tmp_path / "alone", "--units", "bits", "--no-ksg", *quick)
    assert alone.exit_code == 0, alone.output


def test_command_errors(tmp_path, command):
    missing = command(tmp_path / "no.csv")
    assert isinstance(missing.exception, JaxlandError)
    assert "no.csv does not exist" in str(missing.exception)
    (tmp_path / "one.csv").write_text("a\n" + "\n".join(str(i) for i in range(50)))
    alone = command(tmp_path / "one.csv")
    assert "give --against" in str(alone.exception)
    (tmp_path / "empty.csv").write_text("")
    assert isinstance(command(tmp_path / "empty.csv").exception, DataError)


def table_like(mean, std, null, *, categorical=(False, False), symmetric=False):
    """A matrix of given numbers, with bootstraps to match."""
    rng = np.random.default_rng(0)
    mean, std = np.asarray(mean, float), np.asarray(std, float)
    samples = mean[..., None] + std[..., None] * rng.normal(size=(*mean.shape, 40))
    count = mean.shape[1]
    return InformationMatrix(
        rows=tuple(f"z{i}" for i in range(len(mean))),
        columns=tuple(f"f{i}" for i in range(count)),
        mean=mean,
        std=std,
        corrected=mean,
        null_mean=np.full(mean.shape, float(null)),
        ksg=np.full(mean.shape, np.nan),
        samples=samples,
        categorical=categorical,
        entropy=np.where(categorical, np.log(2), np.nan),
        units="nats",
        symmetric=symmetric,
        results=tuple(tuple(None for _ in range(count)) for _ in mean),
    )


def test_mig_of_what_no_latent_carries_is_undefined_and_of_what_is_determined_is_one(tmp_path):
    between = table_like([[np.nan, 0.1], [0.1, np.nan]], [[0, 0.01], [0.01, 0]], 0.01, symmetric=True)
    found = table_like([[0.004, np.inf], [0.003, 0.2]], [[0.003, 0.0], [0.003, 0.01]], 0.002)
    summary = summarise(found, between)
    # Noise over noise: 0.001 / 0.004 with bootstraps that cross zero gave errors of thousands.
    assert np.isnan(summary.mig[0]) and np.isnan(summary.mig_std[0])
    assert summary.mig[1] == 1.0 and summary.mig_std[1] == 0.0 and summary.best[1] == "z0"
    numbers = [[0.004, 0.5], [0.003, 0.1]], [[0.003] * 2] * 2, 0.002
    labels = summarise(table_like(*numbers, categorical=(True, True)), between)
    assert np.isfinite(labels.mig).all() and labels.mig[0] < 0.01  # an entropy is no ratio of zeros
    for figure in (heat_map(found), disentanglement_figure(summary)):
        texts = [t.get_text() for t in figure.axes[0].texts]
        assert any("∞" in text for text in texts)
    drawn = disentanglement_figure(summary).axes[0]
    assert max(bar.get_width() for bar in drawn.patches) > 0.2  # the endless bar stands above all others
    assert "undefined" in drawn.get_yticklabels()[0].get_text()
