"""From the file that ``explore`` writes to hessian, trim and mi: the file brings columns, scaling and rows along."""

import json

import jax
import numpy as np
import pandas as pd
import pytest
import typer
from scipy.optimize import minimize
from typer.testing import CliRunner

from jaxland.cli import explore, hessian, mi, trim
from jaxland.cli.opening import opened
from jaxland.cli.recipe import Recipe
from jaxland.data.options import SplitOptions, TableOptions
from jaxland.data.seen import NEW, TEST, TRAINING, fingerprints
from jaxland.errors import ArgumentError, DataError, StoreError
from jaxland.landscape import Store
from jaxland.models.options import NetworkOptions

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)


def run(module, *arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    module.register(app)
    return CliRunner().invoke(app, [module.__name__.split(".")[-1], *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A table with an identifier, a column of text, gaps and codes; a network trained on it as explore would."""
    folder = tmp_path_factory.mktemp("pipeline")
    n = 120
    x = RNG.normal(size=(n, 2)) * [1.0, 500.0] + [3.0, 4000.0]
    town = RNG.choice(["Bonn", "Köln", "Trier"], n)
    answer = np.where((x[:, 0] > 3) ^ (town == "Bonn"), "yes", "no")
    frame = pd.DataFrame({"id": np.arange(n), "town": town, "dose": x[:, 0], "answer": answer, "cells": x[:, 1]})
    frame["sex"] = RNG.choice(["m", "f"], n)
    frame.loc[[3, 50], "cells"] = np.nan
    frame.to_csv(folder / "table.csv", index=False, sep=";", decimal=",")
    recipe = Recipe(
        str(folder / "table.csv"),
        table=TableOptions(target="answer", missing="median"),
        rows=SplitOptions(test_fraction=0.25),
        network=NetworkOptions(hidden="4", l2=1e-3),
    )
    with jax.enable_x64(True):
        start = recipe.problem.ravel(recipe.model.init(jax.random.key(0)))
        best = minimize(recipe.problem.energy, start, jac=recipe.problem.gradient, tol=1e-10, method="BFGS")
        recipe.save_model(folder / "model.npz", best.x)
    return folder, frame, recipe


def test_the_file_knows_columns_scaling_and_rows(made):
    folder, frame, recipe = made
    source = opened(str(folder / "model.npz"))
    assert source.preparation.columns == ("town", "dose", "cells", "sex") and source.preparation.target == "answer"
    # The table as it was: decimal commas, a missing value, all found again without any option.
    whole = source.read(None, TableOptions())
    train, test = whole.part(TRAINING), whole.part(TEST)
    np.testing.assert_array_equal(train.x, recipe.parts.train.x)
    np.testing.assert_array_equal(train.y, recipe.parts.train.y)
    np.testing.assert_array_equal(test.x, recipe.parts.test.x)
    assert train.called == "line" and list(train.rows) == [k + 2 for k in recipe.parts.train_rows]
    assert whole.describe() == "table: 120 rows (90 trained the model, 30 were kept for testing it)"
    named = source.preparation.factors(whole)
    assert list(named["town"]) == list(frame["town"]) and list(named["answer"]) == list(frame["answer"])


def test_another_table_is_read_as_the_models_was(made, tmp_path):
    folder, frame, recipe = made
    source = opened(str(folder / "model.npz"))
    # Shuffled, columns in another order, one level of the town only, no target, a row it has not seen.
    order = np.flatnonzero(frame["town"] == "Köln")[::-1]
    part = frame.loc[order, ["cells", "sex", "town", "dose"]]
    part = pd.concat([part, part.iloc[:1].assign(dose=9.5)])
    part.to_csv(tmp_path / "part.csv", index=False)
    found = source.read(str(tmp_path / "part.csv"), TableOptions(sep=",", decimal="."))
    expected = {k: x for k, x in zip(recipe.parts.train_rows, recipe.parts.train.x)}
    expected |= {k: x for k, x in zip(recipe.parts.test_rows, recipe.parts.test.x)}
    np.testing.assert_allclose(found.x[:-1], [expected[k] for k in order], rtol=1e-12)
    roles = [TRAINING if k in recipe.parts.train_rows else TEST for k in order]
    assert list(found.roles) == [*roles, NEW] and found.y is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: f.drop(columns="dose"), "lacks 1 of the model's 4 columns: dose"),
        (lambda f: f.assign(town="Mainz"), "holds 'Mainz' in line 2, which the model does not know; it knows Bonn"),
        (lambda f: f.assign(dose="high"), "holds text, such as 'high' in line 2"),
        (lambda f: f.assign(answer="perhaps"), "does not know the class 'perhaps' in line 2"),
    ],
)
def test_tables_that_do_not_fit(made, tmp_path, change, match):
    folder, frame, _ = made
    change(frame).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match=match):
        opened(str(folder / "model.npz")).read(str(tmp_path / "other.csv"), TableOptions(sep=",", decimal="."))


def test_commands_take_the_file_alone(made, tmp_path):
    folder, _, recipe = made
    done = run(hessian, folder, "--out", tmp_path / "h", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["training_rows"] == 90 and found["points"] == 30 and found["warnings"] == []
    assert found["accuracy"] > 0.6
    influence = pd.read_csv(tmp_path / "h" / "influence.csv")
    assert set(influence["training line"]) <= {k + 2 for k in recipe.parts.train_rows}
    assert set(influence["line"]) == {k + 2 for k in recipe.parts.test_rows}
    done = run(trim, folder / "model.npz", "--out", tmp_path / "t", "--json")
    assert done.exit_code == 0, done.output
    attributed = json.loads(done.stdout)
    assert attributed["accuracy"] == pytest.approx(found["accuracy"]) and attributed["inputs"] == 30
    assert set(attributed["shares"]) == {"town", "dose", "cells", "sex"}
    assert max(attributed["shares"], key=attributed["shares"].get) in ("town", "dose")
    assert "at the mean of the training rows" in " ".join(attributed["notes"])


@pytest.mark.slow
def test_what_hidden_units_know(made, tmp_path):
    folder, _, _ = made
    quick = ("--bootstraps", 2, "--null", 0, "--orders", 1)
    done = run(mi, folder, "--part", "all", "--out", tmp_path / "m", "--json", *quick)
    assert done.exit_code == 0, done.output
    pairs = pd.DataFrame(json.loads(done.stdout)["pairs"])
    assert len(pairs) == 4 * 5


def test_the_wrong_table_for_influence_is_refused(made, tmp_path):
    folder, frame, recipe = made
    frame.iloc[recipe.parts.test_rows].to_csv(tmp_path / "test.csv", index=False, sep=";", decimal=",")
    with pytest.raises(DataError, match=r"no row of test trained model.npz: give the table it was trained on"):
        run(hessian, folder, tmp_path / "test.csv", "--out", tmp_path)
    with pytest.raises(ArgumentError, match=r"--part new: .*none of them"):
        run(trim, folder, "--part", "new", "--out", tmp_path)


def test_another_problem_in_the_directory_of_a_run_leaves_its_recipe_alone(tmp_path):
    recipe = Recipe("xor", network=NetworkOptions(hidden="2", l2=1e-3))
    with Store(tmp_path / "landscape.db", recipe.problem):
        recipe.save(tmp_path)
    kept = (tmp_path / "run.json").read_text()
    with pytest.raises(StoreError, match="another problem"):
        run(explore, "xor", "--hidden", 3, "--l2", "1e-3", "--out", tmp_path)
    assert (tmp_path / "run.json").read_text() == kept


def test_fingerprints_tell_rows_apart():
    x = RNG.normal(size=(200, 3))
    marks = fingerprints(np.r_[x, x, -0.0 * x[:1]])
    assert len(set(marks)) == 201 and (marks[:200] == marks[200:400]).all()
    assert fingerprints(np.zeros((1, 3))) == marks[-1]
    assert fingerprints(np.array([[np.nan]])) == fingerprints(np.array([[-np.nan]]))
