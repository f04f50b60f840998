"""Why this row: one prediction asked of all four systems.

The landscape says whether the other good networks predict the same; the Hessian, which training rows the prediction
rests on, how far it moves when they are resampled, and whether it extrapolates; trim, which inputs moved it away from
the prediction for an average row; information, what these inputs know of the target in the data, whatever the network
makes of them, and how rows like this one turned out.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.data import Dataset
from jaxland.data.outputs import OutputUnits
from jaxland.data.recipe import grouped
from jaxland.errors import ArgumentError, ProblemError
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.scoring import precision, predictor, probabilities

if TYPE_CHECKING:
    import pandas

    from jaxland.hessian import Explanation
    from jaxland.information.latents import InformationMatrix
    from jaxland.problem.problem import Problem

# Rows that the row's uncertainty and extrapolation are compared with, inputs whose information is estimated, and
# training rows it is estimated from.
COMPARED, INPUTS, SAMPLES = 100, 6, 2000
# Training rows are alike in a column if they share its value, or are this many nearest ones.
ALIKE = 50


@dataclass(frozen=True, eq=False)
class OtherNetworks:
    """What the networks at all minima say of the row.

    Attributes:
        count: of minima; joined: how many of them are joined to the lowest.
        agreeing: share of all minima whose prediction is the best one's class; NaN for a regression.
        values: [M] what they predict: probability of the best one's class, or output.
        lowest: what the lowest minimum predicts.
    """

    count: int
    joined: int
    agreeing: float
    values: np.ndarray
    lowest: float


@dataclass(frozen=True, eq=False)
class AlikeRows:
    """Training rows like this one in a single column.

    Attributes:
        column: its name; value: that of the row, in the units of the file.
        rows: how many training rows are alike; exact: whether they share the value (else they are the nearest).
        mean, error: share of the predicted class among them (or mean target), and its standard error.
        usual, usual_error: the same of the rows nearest the column's average, against which its part in the
            prediction is told; of a coded column of all rows.
    """

    column: str
    value: str
    rows: int
    exact: bool
    mean: float
    error: float
    usual: float
    usual_error: float


@dataclass(frozen=True, eq=False)
class Why:
    """One prediction, asked of all four systems.

    Attributes:
        row: what a user calls the row: its line in the file, or its place in the table; called: "line" or "row".
        where: what the row was to the network.
        outputs: names of classes, or of the target.
        prediction: [c] probabilities, or the target in the units of the file; said: what is predicted, truth: what is
            true, as text.
        of: what is attributed: ``log-odds of <class>``, the target, or the logarithm of an expected count.
        columns: [s] source columns; values: [s] of the row, in the units of the file, as text.
        moved: [s] what each column adds to ``of`` against the average training row; they sum to ``above``.
        above: ``of`` at the row less that at the average training row; gap: what the sum misses of it.
        networks: what the other minima say.
        explanation: of the row (first) and the rows it is compared with, by the Hessian.
        standing: share of the compared rows that are less uncertain, and share that extrapolate less.
        information: of the columns that moved the prediction most, with the target, in the training data.
        alike: the training rows like this one, column by column, in the same order.
        training: what a user calls the training rows.
    """

    row: int
    called: str
    where: str
    outputs: tuple[str, ...]
    prediction: np.ndarray
    said: str
    truth: str
    of: str
    columns: tuple[str, ...]
    values: tuple[str, ...]
    moved: np.ndarray
    above: float
    gap: float
    networks: OtherNetworks
    explanation: Explanation
    standing: tuple[float, float]
    information: InformationMatrix
    alike: tuple[AlikeRows, ...]
    training: np.ndarray | None = None

    def inputs(self) -> pandas.DataFrame:
        """One row per column of the table, what moved the prediction most first."""
        import pandas as pd

        frame = pd.DataFrame({"column": self.columns, "value": self.values, f"adds to {self.of}": self.moved})
        return frame.iloc[np.argsort(-np.abs(self.moved), kind="stable")].reset_index(drop=True)

    def evidence(self) -> pandas.DataFrame:
        """One row per column that moved the prediction most: what the data say of it."""
        import pandas as pd

        told = [r for line in self.information.results for r in line[:1] if r is not None]
        known = {r.names[0]: r for r in told}
        rows = []
        for a in self.alike:
            found = known.get(a.column)
            rows.append(
                {
                    "column": a.column,
                    "value": a.value,
                    "information on the target": np.nan if found is None else found.mean,
                    "±": np.nan if found is None else found.std,
                    "without dependence": np.nan if found is None else found.null_mean,
                    "training rows alike": a.rows,
                    "among them": a.mean,
                    "± ": a.error,
                    "at the average": a.usual,
                }
            )
        return pd.DataFrame(rows)

    def training_rows(self, most: int = 5) -> pandas.DataFrame:
        """The training rows that the prediction rests on, and those that pull it the other way."""
        import pandas as pd

        found = self.explanation.influence
        does = ("supports it", "speaks against it") if len(self.outputs) > 1 else ("raises it", "lowers it")
        names = np.arange(self.explanation.curvature.n) if self.training is None else self.training
        # What falls without a row was held up by it.
        rows = [
            (int(names[i]), float(v), name)
            for name, index, values in (
                (does[0], found.most_negative[0], found.negative_values[0]),
                (does[1], found.most_positive[0], found.positive_values[0]),
            )
            for i, v in zip(index[:most], values[:most])
        ]
        columns = [f"training {self.called}", f"change of the {found.of} without it", "what it does"]
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        head = f"<b>{self.called} {self.row}</b> ({self.where}): {self.said}, in truth {self.truth}"
        return f"<p>{head}</p>{self.inputs().head(8).to_html(index=False)}{self.evidence().to_html(index=False)}"


def why(
    landscape: Landscape,
    row: int,
    train: Dataset,
    test: Dataset | None = None,
    *,
    where: str | None = None,
    seed: int = 0,
) -> Why:
    """Ask all four systems for the reasons of one prediction of the network at the lowest minimum.

    Args:
        landscape: with its problem, whose training data are ``train``.
        row: place of the row to explain, from 0, in ``test`` where that is given, else in ``train``; what is found
            calls it as its file does (``Dataset.numbers``).
        train: the data the network was trained on.
        test: the data the row is taken from.
        where: what the row was to the network; default "kept for testing" or "trained the network".
        seed: of resamplings and fits.

    Raises:
        ArgumentError: there is no such row. ProblemError: the landscape has no network.
    """
    problem, data = landscape.problem, train if test is None else test
    if problem is None or problem.model is None:
        raise ProblemError("the landscape has no network: there is no prediction to explain")
    if not 0 <= row < data.n:
        raise ArgumentError(
            f"row {row} is not there: the {'training' if test is None else 'test'} data have rows 0 to {data.n - 1}"
        )
    at = problem.at(landscape.best.astype(problem.dtype))
    classify = problem.loss_name == "cross_entropy"
    predict = predictor(problem)
    outputs = predict(landscape.best, data.x[[row]])[0, 0].reshape(-1)
    units = OutputUnits.of(train, problem.loss_name)
    shown = probabilities(outputs) if classify else units.shown(outputs)
    index = int(shown.argmax()) if classify else 0
    names = tuple(data.classes) if classify else (data.target,)
    columns, place = grouped(data.sources)
    moved, above, gap = _moved(at, data.x[[row]], train.x, index, classify, place, len(columns))
    moved, above, gap = units.scale * moved, units.scale * above, units.scale * gap
    found = _explained(at, data, row, seed).in_units(units)
    order = np.argsort(-np.abs(moved), kind="stable")[:INPUTS]
    goal = (train.y == index).astype(float) if classify else np.asarray(train.targets(), float)
    truth = names[int(data.y[row])] if classify else f"{float(data.targets()[row]):.4g}"
    return Why(
        row=int(data.numbers()[row]),
        called=data.called,
        where=where or ("trained the network" if test is None else "kept for testing"),
        outputs=names,
        prediction=shown,
        said=names[index] if classify else f"{shown[0]:.4g}",
        truth=truth,
        of=f"log-odds of {names[index]}" if classify else units.additive,
        columns=columns,
        values=tuple(_value(data, row, place, s) for s in range(len(columns))),
        moved=moved,
        above=above,
        gap=gap,
        networks=_networks(landscape, predict(landscape.coordinates, data.x[[row]])[:, 0], index, units, classify),
        explanation=found,
        standing=(_below(np.subtract(*found.uncertainty.interval()[::-1])), _below(found.extrapolation.scores)),
        information=_information(train, order, columns, place, seed),
        alike=tuple(_alike(train, data, row, int(s), columns[s], place, goal) for s in order),
        training=train.numbers(),
    )


def _below(values: np.ndarray) -> float:
    """Share of the other rows below the first."""
    return float((values[1:] < values[0]).mean()) if len(values) > 1 else float("nan")


def _moved(
    problem: Problem, x: np.ndarray, background: np.ndarray, index: int, classify: bool, place: np.ndarray, count: int
) -> tuple[np.ndarray, float, float]:
    """What each source column adds [count], the whole difference from the mean row, and what the sum misses."""
    from jaxland.trim import attribute

    outputs_of = problem.outputs_of

    def asked(inputs: jax.Array) -> jax.Array:
        z = outputs_of(problem.w, inputs).reshape(len(inputs), -1)
        if not classify:
            return z[:, 0]
        others = jnp.delete(z, index, axis=1)
        return z[:, index] - jax.nn.logsumexp(others, axis=1)

    with precision(problem.dtype == np.float64), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        x, background = (np.asarray(v, problem.dtype) for v in (x, background))
        found = attribute(asked, x, baseline="mean", background=background, warn=False, nodes=256)
    scores = np.bincount(place, weights=np.asarray(found.scores[0], float), minlength=count)
    return scores, float(found.f_x[0] - found.f_base[0]), float(found.gap[0])


def _networks(
    landscape: Landscape, outputs: np.ndarray, index: int, units: OutputUnits, classify: bool
) -> OtherNetworks:
    outputs = outputs.reshape(len(outputs), -1)
    values = probabilities(outputs)[:, index] if classify else units.shown(outputs[:, 0])
    return OtherNetworks(
        count=landscape.n_minima,
        joined=int((landscape.components() == 0).sum()),
        agreeing=float((outputs.argmax(1) == index).mean()) if classify else float("nan"),
        values=values,
        lowest=float(values[0]),
    )


def _explained(problem: Problem, data: Dataset, row: int, seed: int) -> Explanation:
    """The row first, then rows drawn to compare it with."""
    from jaxland.hessian import CurvatureWarning, explain

    others = np.random.default_rng([seed, 41]).permutation(np.delete(np.arange(data.n), row))[:COMPARED]
    rows = np.concatenate([[row], others])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CurvatureWarning)
        of = "probability" if problem.loss_name == "cross_entropy" else "output"
        return explain(problem, (data.x[rows].astype(problem.dtype), data.y[rows]), of=of, modes=2, seed=seed)


def _single(data: Dataset, place: np.ndarray, s: int) -> np.ndarray:
    """A source column as one number per row [n]: its value, or the code of the level that is on."""
    features = np.flatnonzero(place == s)
    values = data.inputs()[:, features]
    return values[:, 0] if len(features) == 1 else values.argmax(1).astype(float)


def _value(data: Dataset, row: int, place: np.ndarray, s: int) -> str:
    features = np.flatnonzero(place == s)
    values = data.take(np.array([row])).inputs()[0, features]
    levels = data.levels.get(data.sources[features[0]])
    if levels is not None:
        return str(levels[int(values[0] > 0.5) if len(features) == 1 else int(values.argmax())])
    return f"{0.0 if abs(values[0]) < 1e-9 else values[0]:.6g}"


def _alike(
    train: Dataset, data: Dataset, row: int, s: int, name: str, place: np.ndarray, goal: np.ndarray
) -> AlikeRows:
    values, own = _single(train, place, s), float(_single(data, place, s)[row])
    coded = data.sources[int(np.flatnonzero(place == s)[0])] in data.levels
    near = np.abs(values - own)
    same = near <= 1e-9 * max(1.0, abs(own))
    exact = bool(same.sum() >= ALIKE) or coded
    chosen = np.flatnonzero(same) if exact else np.argsort(near, kind="stable")[:ALIKE]
    middle = np.arange(train.n) if coded else np.argsort(np.abs(values - values.mean()), kind="stable")[:ALIKE]
    (mean, error), (usual, usual_error) = (_mean(goal[rows]) for rows in (chosen, middle))
    return AlikeRows(
        column=name,
        value=_value(data, row, place, s),
        rows=len(chosen),
        exact=exact,
        mean=mean,
        error=error,
        usual=usual,
        usual_error=usual_error,
    )


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error; NaN where there are too few."""
    mean = float(values.mean()) if len(values) else float("nan")
    return mean, float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def _information(
    train: Dataset, order: np.ndarray, columns: tuple[str, ...], place: np.ndarray, seed: int
) -> InformationMatrix:
    """Of the columns of an order with the target, from at most ``SAMPLES`` training rows."""
    import pandas as pd

    from jaxland.information import matrix

    part = train.subsample(min(SAMPLES, train.n), seed)
    inputs = pd.DataFrame({columns[s]: _single(part, place, int(s)) for s in order})
    target = part.target
    known: np.ndarray = part.y if part.task != "classification" else np.asarray(part.classes, object)[part.y]
    return matrix(inputs, pd.DataFrame({target: known}), bootstraps=20, orders=(1, 2, 3, 4), seed=seed)
