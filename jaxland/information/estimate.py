"""The estimate behind every pair: maps, selection, evidence, bootstraps, null and integrals, many pairs at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from jaxtyping import Float, Int

from jaxland.core import mixture as gm
from jaxland.errors import DataError
from jaxland.information import fitting, integrals
from jaxland.information.columns import Variable, copies, normal_scores
from jaxland.information.options import Options
from jaxland.information.table import (
    ALL,
    Columns,
    Density,
    Key,
    Table,
    components,
    fold_weights,
    padded_order,
    stack,
    trim,
)

EVIDENCE_SAMPLES = 5_000
SHIFTS = 16
SCRAMBLINGS = 8  # independent integrals of the mixture that gives the estimate
CONTESTS = {
    4: 0.1,
    8: 0.05,
    16: 0.0,
}  # after these orders a map that trails the best by more than this share is given up

Draw = Callable[[int], Float[np.ndarray, " n"]]


@dataclass(frozen=True)
class Estimate:
    """One pair, in nats: what ``MutualInformation`` is made of, whose fields of these names say what they are.

    Attributes:
        coordinates: columns that ``mixture`` was fitted to, [d, N] for each variable.
        at_limit: the largest number of components tried was still the best.
        model_error: what samples that a fit has not seen say against it: how far the estimate lies from their
            Donsker-Varadhan value, or by how much the mean pointwise information of the samples a fit has seen
            exceeds theirs, whichever is larger; 0 where nothing was held out.
    """

    value: float
    integration_error: float
    samples: Float[np.ndarray, " b"]
    null: Float[np.ndarray, " q"]
    map: str
    evidence: dict[str, float]
    order: int
    components: int
    history: dict[int, float]
    mixture: gm.Mixture | None
    coordinates: tuple[Float[np.ndarray, "_ n"], ...]
    dropped: int
    unconverged: int
    steps: int
    at_limit: bool
    model_error: float = 0.0


def estimate(
    tuples: Sequence[tuple[Variable, ...]],
    terms: tuple[integrals.Term, ...],
    options: Options,
    *,
    null: bool = True,
    first: tuple[integrals.Term, ...] | None = None,
    draw: Draw | None = None,
) -> list[Estimate]:
    """Information of each tuple of variables, all of the same sizes, in memory-bounded batches.

    Args:
        tuples: (x, y) or (x, y, z); the same Variable object may appear in many.
        terms: the integral; first: the terms whose sum is T = log p(x, rest) / (p(x) p(rest)), whose
            Donsker-Varadhan value on held-out samples is the evidence for a map (default: ``terms``).
        null: whether to fit shuffles of the second variable.
        draw: weights [N] of bootstrap b; default drawn with replacement, copies together.
    """
    n = tuples[0][0].columns.shape[1]
    _check_columns(tuples[0], n - n // options.folds)
    per_variable = max(v.size for t in tuples for v in t) * 8 * n * (2 + options.folds + 2 * options.null)
    batch = max(1, int(options.memory * 2**30 / 2 / (per_variable * 2)))
    out: list[Estimate] = []
    for begin in range(0, len(tuples), batch):
        out += _Batch(tuples[begin : begin + batch], terms, first or terms, options, null=null, draw=draw).run()
    return out


def _check_columns(variables: Sequence[Variable], n: int) -> None:
    """Raise ``DataError`` where a single component already has more parameters than there are samples to fit."""
    d = sum(v.size for v in variables)
    parameters = d * (d + 3) // 2
    if parameters > n:
        names = " and ".join(dict.fromkeys(v.name for v in variables))
        raise DataError(
            f"{names} have {d} columns together: one Gaussian over them has {parameters:,} parameters, and {n:,} "
            "samples are there to fit it. Take fewer columns (a few principal components), or more samples"
        )


def maps_tried(options: Options) -> tuple[str, ...]:
    """Coordinates to fit in."""
    return ("raw", "scores") if options.maps == "auto" else (options.maps,)


class _Batch:
    """Pairs whose fits run together: density ``len(maps) * i + m`` is pair i in map m."""

    def __init__(
        self,
        tuples: Sequence[tuple[Variable, ...]],
        terms: tuple[integrals.Term, ...],
        first: tuple[integrals.Term, ...],
        options: Options,
        *,
        null: bool,
        draw: Draw | None,
    ) -> None:
        self.tuples, self.terms, self.first, self.options = tuples, terms, first, options
        self.sizes = [v.size for v in tuples[0]]
        self.maps = maps_tried(options)
        self.null = null and options.null > 0
        # Of I(X;Y) alone the held-out value is a bound.
        self.bounded = null and first is terms
        variables = list({id(v): v for t in tuples for v in t}.values())
        self.number = {id(v): i for i, v in enumerate(variables)}
        n = variables[0].columns.shape[1]
        self.group = copies(*variables)
        self.draw = draw or (lambda b: fitting.resampled(self.group, options.seed, b))
        self.fold = fitting.fold_numbers(self.group, options.folds, options.seed)
        self.columns = self._columns(variables)
        self.table = Table(np.stack(self.columns.rows), fold_weights(self.fold, options.folds), options)
        train = np.arange(1, 1 + options.folds)
        self.densities = [
            Density(
                columns=self._places(t, m),
                fold_columns=np.stack([self._places(t, m, f) for f in range(options.folds)]),
                full=0,
                train=train,
                test=train + options.folds,
                samples=np.arange(n),
            )
            for t in tuples
            for m in self.maps
        ]
        self.contest = len(self.maps) > 1 and options.criterion == "held_out"

    def _columns(self, variables: Sequence[Variable]) -> Columns:
        """Every variable in every map: whole, by the training samples of each fold, and shuffled."""
        columns = Columns()
        for i, v in enumerate(variables):
            if "raw" in self.maps:
                columns.put(Key(i, "raw"), v.columns)
            if "scores" in self.maps:
                columns.put(Key(i, "scores"), normal_scores(v.columns))
                for f in range(self.options.folds):
                    mapped = normal_scores(v.columns, np.flatnonzero(self.fold != f))
                    columns.put(Key(i, "scores", ("fold", f)), mapped)
        if self.null:
            orders = fitting.shuffles(self.options, variables[0].columns.shape[1])
            for i in dict.fromkeys(self.number[id(t[1])] for t in self.tuples):
                for m in self.maps:
                    for q, order in enumerate(orders):
                        columns.put(Key(i, m, ("shuffle", q)), columns.values(Key(i, m))[:, order])
        return columns

    def _places(self, t: tuple[Variable, ...], m: str, fold: int | None = None) -> Int[np.ndarray, " d"]:
        version = ALL if fold is None or m == "raw" else ("fold", fold)
        return np.concatenate([self.columns.places[Key(self.number[id(v)], m, version)] for v in t])

    def run(self) -> list[Estimate]:
        """Estimates of the pairs."""
        selections = fitting.select(self.table, self.densities, self._hopeless)
        chosen, evidence = self._contest(selections)
        densities = [self.densities[c] for c in chosen]
        kept = [selections[c] for c in chosen]
        fitted = fitting.finish(
            self.table,
            densities,
            kept,
            lambda _, b: self.draw(b),
            [0] * len(densities),
        )
        maps = [self.maps[c % len(self.maps)] for c in chosen]
        values = self._integrals(fitted, self._nulls(maps, densities, kept))
        return [
            self._estimate(densities[i], kept[i], fitted[i], values=values[i], m=maps[i], evidence=evidence[i])
            for i in range(len(chosen))
        ]

    def _evidence(self, c: int, selection: fitting.Selection) -> float:
        """Mean held-out Donsker-Varadhan value of a density's folds."""
        fold_columns = self.densities[c].fold_columns
        bounds = [
            donsker_varadhan(mixture, self.table.host[fold_columns[f]][:, self.fold == f], self.first, self.sizes[0])
            for f, mixture in enumerate(selection.folds)
        ]
        return float(np.mean(bounds))

    def _model_error(self, density: Density, kept: fitting.Selection, value: float, evidence: float) -> float:
        if self.options.criterion != "held_out":
            return 0.0
        optimism = []
        for f, mixture in enumerate(kept.folds):
            columns = self.table.host[density.fold_columns[f]]
            own = [
                np.mean(_pointwise(mixture, _some(columns[:, self.fold == f if out else self.fold != f]), self.terms))
                for out in (True, False)
            ]
            optimism.append(own[1] - own[0])
        beyond = abs(value - evidence) if self.bounded and self.contest else 0.0
        return max(beyond, float(np.mean(optimism)))

    def _hopeless(self, order: int, so_far: list[fitting.Selection]) -> list[int]:
        """Maps far behind the other of their pair: more components will not bring them back."""
        if not self.contest or order not in CONTESTS:
            return []
        out, count = [], len(self.maps)
        for i in range(0, len(self.densities), count):
            if all(s.finished for s in so_far[i : i + count]):
                continue
            value = [self._evidence(c, so_far[c]) for c in range(i, i + count)]
            out += [i + m for m in trailing(order, value)]
        return out

    def _contest(self, selections: Sequence[fitting.Selection]) -> tuple[list[int], list[dict[str, float]]]:
        """Density chosen for each pair, and what each map's evidence was."""
        chosen, evidence, count = [], [], len(self.maps)
        for i in range(len(self.tuples)):
            places = range(count * i, count * (i + 1))
            values = {m: self._evidence(c, selections[c]) if self.contest else 0.0 for m, c in zip(self.maps, places)}
            evidence.append(values)
            chosen.append(count * i + int(np.argmax(list(values.values()))))
        return chosen, evidence

    def _nulls(
        self, maps: Sequence[str], densities: Sequence[Density], kept: Sequence[fitting.Selection]
    ) -> list[list[gm.Mixture]]:
        """Fits of each pair with its second variable shuffled, at the order chosen for the pair."""
        nulls: list[list[gm.Mixture]] = [[] for _ in self.tuples]
        if not self.null:
            return nulls
        orders = [padded_order(s.order) for s in kept]
        for size in sorted(set(orders)):
            owners, shuffled = [], []
            for i, t in enumerate(self.tuples):
                if orders[i] != size:
                    continue
                for q in range(self.options.null):
                    keys = [
                        Key(self.number[id(v)], maps[i], ("shuffle", q) if k == 1 else ALL) for k, v in enumerate(t)
                    ]
                    places = np.concatenate([self.columns.places[key] for key in keys])
                    shuffled.append(fitting.Shuffled(q, places, densities[i], kept[i].order))
                    owners.append(i)
            for i, mixture in zip(owners, fitting.fit_shuffled(self.table, shuffled, size)):
                nulls[i].append(mixture)
        return nulls

    def _integrals(
        self, fitted: Sequence[fitting.Fitted], nulls: Sequence[Sequence[gm.Mixture]]
    ) -> list[Float[np.ndarray, " v"]]:
        """Of each pair: SCRAMBLINGS values of the full fit, one of each bootstrap, one of each null."""
        seeds = integral_seeds(self.options)
        values: dict[int, np.ndarray] = {}
        orders = [len(f.full.log_weight) for f in fitted]
        for size in sorted(set(orders)):
            members = [i for i, k in enumerate(orders) if k == size]
            lots = [[fitted[i].full] * SCRAMBLINGS + [*fitted[i].boots, *nulls[i]] for i in members]
            got = integrals.integrate(
                stack([m for lot in lots for m in lot], size),
                self.terms,
                np.concatenate([seeds[: len(lot)] for lot in lots]),
                points=self.options.points,
                dtype=self.options.dtype,
            )
            ends = np.cumsum([len(lot) for lot in lots])[:-1]
            values |= dict(zip(members, np.split(got, ends)))
        return [values[i] for i in range(len(fitted))]

    def _estimate(
        self,
        density: Density,
        kept: fitting.Selection,
        fitted: fitting.Fitted,
        *,
        values: Float[np.ndarray, " v"],
        m: str,
        evidence: dict[str, float],
    ) -> Estimate:
        return Estimate(
            **shared_out(values, self.options),
            map=m,
            evidence=evidence,
            order=kept.order,
            components=components(fitted.full),
            history=kept.history,
            mixture=trim(fitted.full),
            coordinates=tuple(np.split(self.table.host[density.columns], np.cumsum(self.sizes)[:-1])),
            dropped=fitted.dropped + kept.dropped,
            unconverged=fitted.unconverged,
            steps=fitted.steps,
            model_error=self._model_error(density, kept, float(np.mean(values[:SCRAMBLINGS])), evidence.get(m, 0.0)),
            at_limit=kept.order == self.options.orders[-1] and len(self.options.orders) > 1,
        )


class Integrated(TypedDict):
    """The fields of an ``Estimate`` that its integrals give."""

    value: float
    integration_error: float
    samples: Float[np.ndarray, " b"]
    null: Float[np.ndarray, " q"]


def shared_out(values: Float[np.ndarray, " v"], options: Options) -> Integrated:
    """The estimate and its integration error, the bootstraps and the nulls, from integrals in that order."""
    full, rest = values[:SCRAMBLINGS], values[SCRAMBLINGS:]
    return {
        "value": float(full.mean()),
        "integration_error": float(full.std(ddof=1) / np.sqrt(SCRAMBLINGS)),
        "samples": rest[: options.bootstraps],
        "null": rest[options.bootstraps :],
    }


def trailing(order: int, evidence: Sequence[float]) -> list[int]:
    """Maps to give up after this order: far behind after the first contests, all but the best after the last."""
    margin = CONTESTS[order]
    return [m for m, v in enumerate(evidence) if v < (1.0 - margin) * max(evidence) - margin / 5]


def integral_seeds(options: Options) -> np.ndarray:
    """Scrambling seeds: SCRAMBLINGS of the full fit, one of each bootstrap and each null, uint32."""
    count = SCRAMBLINGS + options.bootstraps + options.null
    drawn = [np.random.default_rng([options.seed, 0x1277, k]).integers(0, 2**32) for k in range(count)]
    return np.array(drawn, np.uint32)


def donsker_varadhan(
    mixture: gm.Mixture, z: Float[np.ndarray, "d n"], terms: tuple[integrals.Term, ...], dx: int
) -> float:
    """E_p T - log E_{p x p} e^T on samples the mixture has not seen, T the sum of the terms; x the first dx rows.

    A lower bound on I(X; rest) whatever T is, and unchanged by one-to-one maps of x and of the rest: so it can rank
    fits made in different coordinates. The product of the marginals is sampled by shifting x against the rest. T is
    cut where a sample of the product that happens to be missing would count for more than a tenth of E e^T: else few
    far samples, which a fit calls wildly dependent, decide.
    """
    z = _some(z)
    n = z.shape[1]
    parts = [(term, gm.marginal(mixture, term.of)) for term in terms]
    paired = sum(term.sign * integrals.log_density(m, z[list(term.at)]) for term, m in parts)
    shifts = np.unique(np.linspace(1, n - 1, min(SHIFTS, n - 1)).astype(int))
    most = np.log(max(0.1 * n * len(shifts), 2.0))
    crossed: list[Float[np.ndarray, " n"]] = []
    fixed = {term: integrals.log_density(m, z[list(term.at)]) for term, m in parts if _one_sided(term, dx)}
    for shift in shifts:
        mixed = np.concatenate([np.roll(z[:dx], shift, axis=1), z[dx:]])
        total = np.zeros(n)
        for term, m in parts:
            if term in fixed:
                on_x = max(term.at) < dx
                total = total + term.sign * (np.roll(fixed[term], shift) if on_x else fixed[term])
            else:
                total = total + term.sign * integrals.log_density(m, mixed[list(term.at)])
        crossed.append(total)
    flat = np.clip(np.concatenate(crossed), -most, most)
    top = flat.max()
    return float(np.mean(np.clip(paired, -most, most)) - (top + np.log(np.mean(np.exp(flat - top)))))


def _some(z: Float[np.ndarray, "d n"]) -> Float[np.ndarray, "d m"]:
    """At most ``EVIDENCE_SAMPLES`` of the samples."""
    return z[:, np.linspace(0, z.shape[1] - 1, min(z.shape[1], EVIDENCE_SAMPLES)).astype(int)]


def _pointwise(
    mixture: gm.Mixture, z: Float[np.ndarray, "d n"], terms: tuple[integrals.Term, ...]
) -> Float[np.ndarray, " n"]:
    """What each sample contributes to an information."""
    parts = [t.sign * integrals.log_density(gm.marginal(mixture, t.of), z[list(t.at)]) for t in terms]
    return np.sum(parts, axis=0)


def _one_sided(term: integrals.Term, dx: int) -> bool:
    return max(term.at) < dx or min(term.at) >= dx
