"""The estimate behind every pair: maps, selection, evidence, bootstraps, null and integrals, many pairs at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxland.core import mixture as gm
from jaxland.information import fitting, integrals
from jaxland.information.columns import Variable, copies, normal_scores
from jaxland.information.fitting import Options, Table, Target

EVIDENCE_SAMPLES = 5_000
SHIFTS = 16
SCRAMBLINGS = 8  # independent integrals of the mixture that gives the estimate
CONTESTS = {
    4: 0.1,
    8: 0.05,
    16: 0.0,
}  # after these orders a map that trails the best by more than this share is given up


@dataclass(frozen=True)
class Estimate:
    """One pair, in nats: what ``MutualInformation`` is made of."""

    value: float
    integration_error: float
    samples: Float[np.ndarray, " b"]
    null: Float[np.ndarray, " q"]
    map: str
    evidence: dict[str, float]
    order: int
    components: int
    history: dict[int, float]
    mixture: gm.Mixture
    coordinates: tuple[Float[np.ndarray, "d n"], ...]
    dropped: int
    unconverged: int
    steps: int
    at_limit: bool


def estimate(
    tuples: Sequence[tuple[Variable, ...]],
    terms: tuple[integrals.Term, ...],
    options: Options,
    *,
    null: bool = True,
    first: tuple[integrals.Term, ...] | None = None,
) -> list[Estimate]:
    """Information of each tuple of variables, all of the same sizes, in memory-bounded batches.

    Args:
        tuples: (x, y) or (x, y, z); the same Variable object may appear in many.
        terms: the integral; first: the terms whose sum is T = log p(x, rest) / (p(x) p(rest)), whose
            Donsker-Varadhan value on held-out samples is the evidence for a map (default: ``terms``).
        null: whether to fit shuffles of the second variable.
    """
    n = tuples[0][0].columns.shape[1]
    per_variable = max(v.size for t in tuples for v in t) * 8 * n * (2 + options.folds + 2 * options.null)
    batch = max(1, int(options.memory * 2**30 / 2 / (per_variable * 2)))
    out: list[Estimate] = []
    for begin in range(0, len(tuples), batch):
        out += _batch(tuples[begin : begin + batch], terms, options, null, first or terms)
    return out


def _batch(tuples, terms, options: Options, null: bool, first) -> list[Estimate]:
    variables = list({id(v): v for t in tuples for v in t}.values())
    n = variables[0].columns.shape[1]
    sizes = [v.size for v in tuples[0]]
    group = copies(*variables)
    fold = fitting.fold_numbers(group, options.folds, options.seed)
    maps = ("raw", "scores") if options.maps == "auto" else (options.maps,)

    rows: list[np.ndarray] = []
    where: dict[tuple[int, str, int], np.ndarray] = {}

    def put(key: tuple[int, str, int], columns: np.ndarray) -> None:
        where[key] = np.arange(len(rows), len(rows) + len(columns))
        rows.extend(columns)

    for v in variables:
        if "raw" in maps:
            put((id(v), "raw", -1), v.columns)
        if "scores" in maps:
            put((id(v), "scores", -1), normal_scores(v.columns))
            for f in range(options.folds):
                put((id(v), "scores", f), normal_scores(v.columns, np.flatnonzero(fold != f)))
    shuffles = [np.random.default_rng([options.seed, 0x5F1E, q]).permutation(n) for q in range(options.null)]
    if null and options.null:
        for v in {id(t[1]): t[1] for t in tuples}.values():
            for m in maps:
                for q, order in enumerate(shuffles):
                    put((id(v), m, -2 - q), np.stack([rows[r] for r in where[id(v), m, -1]])[:, order])
    weights = np.stack(
        [np.ones(n), *(fold != f for f in range(options.folds)), *(fold == f for f in range(options.folds))]
    )
    table = Table(np.stack(rows), weights.astype(np.float64), options)
    train = np.arange(1, 1 + options.folds)

    def columns(t: tuple[Variable, ...], m: str, f: int = -1) -> np.ndarray:
        return np.concatenate([where[id(v), m, f if m == "scores" else -1] for v in t])

    targets = [
        Target(
            columns(t, m),
            np.stack([columns(t, m, f) for f in range(options.folds)]),
            0,
            train,
            train + options.folds,
            np.arange(n),
        )
        for t in tuples
        for m in maps
    ]

    def bounds(c: int, selection: fitting.Selection) -> list[float]:
        return [
            donsker_varadhan(mix, table.host[targets[c].fold_columns[f]][:, fold == f], first, sizes[0])
            for f, mix in enumerate(selection.folds)
        ]

    contest = len(maps) > 1 and options.criterion == "held_out"

    def hopeless(order: int, so_far: list[fitting.Selection]) -> list[int]:
        """Maps far behind the other of their pair: more components will not bring them back."""
        if not contest or order not in CONTESTS:
            return []
        out = []
        for i in range(0, len(targets), len(maps)):
            if all(s.finished for s in so_far[i : i + len(maps)]):
                continue
            value = [float(np.mean(bounds(c, so_far[c]))) for c in range(i, i + len(maps))]
            out += [i + m for m in trailing(order, value)]
        return out

    selections = fitting.select(table, targets, hopeless)
    chosen, evidence = [], []
    for i in range(len(tuples)):
        places = range(len(maps) * i, len(maps) * (i + 1))
        values = {m: float(np.mean(bounds(c, selections[c]))) if contest else 0.0 for m, c in zip(maps, places)}
        evidence.append(values)
        chosen.append(len(maps) * i + int(np.argmax(list(values.values()))))
    picked = [targets[c] for c in chosen]
    kept = [selections[c] for c in chosen]
    fitted = fitting.finish(
        table, picked, kept, lambda kind, b: fitting.resampled(group, options.seed, b), [0] * len(picked)
    )
    nulls = _nulls(table, tuples, chosen, maps, kept, where, options) if null and options.null else [[]] * len(tuples)
    return _integrals(tuples, terms, options, table, maps, chosen, evidence, picked, kept, fitted, nulls)


def _nulls(table, tuples, chosen, maps, kept, where, options) -> list[list[gm.Mixture]]:
    """Fits of each pair with its second variable shuffled, at the order chosen for the pair."""
    nulls: list[list[gm.Mixture]] = [[] for _ in tuples]
    orders = [fitting.padded_order(s.order) for s in kept]
    for size in sorted(set(orders)):
        lanes, starts = [], []
        for i, t in enumerate(tuples):
            if orders[i] != size:
                continue
            m = maps[chosen[i] % len(maps)]
            for q in range(options.null):
                dims = np.concatenate([where[id(v), m, -2 - q if k == 1 else -1] for k, v in enumerate(t)])
                rng = np.random.default_rng([options.seed, 0x2011, q])
                starts.append(gm.start(table.host[dims], kept[i].order, rng, kind=options.start, size=size))
                lanes.append((i, dims))
        fits = table.fit([dims for _, dims in lanes], np.zeros(len(lanes), int), fitting.stack(starts, size))
        for lane, (i, _) in enumerate(lanes):
            nulls[i].append(fitting.pick(fits.mixture, lane))
    return nulls


def _integrals(tuples, terms, options, table, maps, chosen, evidence, picked, kept, fitted, nulls) -> list[Estimate]:
    seeds = integral_seeds(options)
    values: list[np.ndarray] = [np.empty(0)] * len(tuples)
    orders = [len(f.full.log_weight) for f in fitted]
    for size in sorted(set(orders)):
        members = [i for i, k in enumerate(orders) if k == size]
        lots = [[fitted[i].full] * SCRAMBLINGS + [*fitted[i].boots, *nulls[i]] for i in members]
        got = integrals.integrate(
            fitting.stack([m for lot in lots for m in lot], size),
            terms,
            np.concatenate([seeds[: len(lot)] for lot in lots]),
            points=options.points,
            dtype=np.dtype(options.dtype),
        )
        ends = np.cumsum([len(lot) for lot in lots])[:-1]
        for i, part in zip(members, np.split(got, ends)):
            values[i] = part
    out = []
    for i, t in enumerate(tuples):
        m = maps[chosen[i] % len(maps)]
        coordinates = np.split(table.host[picked[i].columns], np.cumsum([v.size for v in t])[:-1])
        out.append(
            Estimate(
                **shared_out(values[i], options),
                map=m,
                evidence=evidence[i],
                order=kept[i].order,
                components=fitting.components(fitted[i].full),
                history=kept[i].history,
                mixture=fitting.trim(fitted[i].full),
                coordinates=tuple(coordinates),
                dropped=fitted[i].dropped + kept[i].dropped,
                unconverged=fitted[i].unconverged,
                steps=fitted[i].steps,
                at_limit=kept[i].order == options.orders[-1] and len(options.orders) > 1,
            )
        )
    return out


def shared_out(values: Float[np.ndarray, " v"], options: Options) -> dict[str, Any]:
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
    fits made in different coordinates. The product of the marginals is sampled by shifting x against the rest.
    """
    take = np.linspace(0, z.shape[1] - 1, min(z.shape[1], EVIDENCE_SAMPLES)).astype(int)
    z = z[:, take]
    n = z.shape[1]
    parts = [(term, gm.marginal(mixture, term.of)) for term in terms]
    paired = sum(term.sign * integrals.log_density(m, z[list(term.at)]) for term, m in parts)
    shifts = np.unique(np.linspace(1, n - 1, min(SHIFTS, n - 1)).astype(int))
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
    flat = np.concatenate(crossed)
    top = flat.max()
    return float(np.mean(paired) - (top + np.log(np.mean(np.exp(flat - top)))))


def _one_sided(term: integrals.Term, dx: int) -> bool:
    return max(term.at) < dx or min(term.at) >= dx
