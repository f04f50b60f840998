"""Lowest and highest Hessian modes of networks too large for a matrix: products over chunks of data and devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from jaxland.core.krylov import thick_restart
from jaxland.core.krylov.step import enough, ritz_pairs
from jaxland.errors import DataError, StoreError
from jaxland.hessian.modes_options import ModesKeywords, ModesOptions, Wanted
from jaxland.hessian.padded import Product, padded_product
from jaxland.options import chosen, spelled_out
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem, PyTree, required
from jaxland.problem.rows import to_host
from jaxland.problem.sharded import ShardedProblem, shard_data
from jaxland.runs import Checkpoint, Stop, digest, stoppable
from jaxland.showing import brief

_KIND = "jaxland-lanczos-2"
_STRIDE = 8


class ModesProgress(NamedTuple):
    """Where a run is.

    Attributes:
        products: so far.
        lowest, highest: Ritz values at both ends, from the end inwards.
        residual: the largest of theirs by the recurrence, relative to the largest |value|.
        seconds: since the run began.
    """

    products: int
    lowest: np.ndarray
    highest: np.ndarray
    residual: float
    seconds: float


@dataclass(frozen=True, eq=False)
class ExtremeModes:
    """Both ends of the Hessian spectrum at one point.

    Attributes:
        lowest, highest: eigenvalues, ascending from the lower end and descending from the upper one.
        lowest_vectors, highest_vectors: unit eigenvectors in rows.
        lowest_residuals, highest_residuals: |H v - value v|, each from a product of its own (by the recurrence where
            the run was interrupted); the nearest eigenvalue is no farther away.
        converged: all residuals within the tolerance.
        status: "converged", "products", "time limit" or "interrupted".
        products, restarts: Hessian-vector products in all, restarts of the basis.
        storage: format of the basis.
        basis_bytes: memory of the basis over all devices.
        gradient_rms: rms of the gradient at the point: modes describe a saddle only where it is small.
        seconds: of this call.
    """

    lowest: Float[np.ndarray, " k"]
    highest: Float[np.ndarray, " m"]
    lowest_vectors: Float[np.ndarray, "k N"]
    highest_vectors: Float[np.ndarray, "m N"]
    lowest_residuals: Float[np.ndarray, " k"]
    highest_residuals: Float[np.ndarray, " m"]
    converged: bool
    status: str
    products: int
    restarts: int
    storage: str
    basis_bytes: int
    gradient_rms: float
    seconds: float

    __repr__ = brief

    @property
    def negative(self) -> int:
        """How many of the lowest values are negative by more than their residual: a bound on the index from below."""
        return int(np.sum(self.lowest < -self.lowest_residuals))

    def to_pandas(self) -> pd.DataFrame:
        """One row per mode."""
        parts = [
            pd.DataFrame({"end": end, "rank": np.arange(1, len(v) + 1), "eigenvalue": v, "residual": r})
            for end, v, r in (
                ("lowest", self.lowest, self.lowest_residuals),
                ("highest", self.highest, self.highest_residuals),
            )
        ]
        return pd.concat(parts, ignore_index=True)

    def _repr_html_(self) -> str:
        head = f"<p>{self.status}, {self.products} products, basis in {self.storage}</p>"
        return head + self.to_pandas().to_html(index=False)


class _Over(TypedDict):
    """Devices over which the columns of the basis lie, as keywords of ``core.krylov.thick_restart``."""

    mesh: Mesh | None
    axis: str


@in_precision
@spelled_out(ModesOptions)
def extreme_modes(
    problem: Problem,
    w: PyTree | None = None,
    options: ModesOptions | None = None,
    *,
    mesh: Mesh | None = None,
    axis: str = "data",
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 300.0,
    time_limit: float | None = None,
    progress: Callable[[ModesProgress], None] | None = None,
    **changes: Unpack[ModesKeywords],
) -> ExtremeModes:
    """Lowest and highest Hessian eigenpairs by thick-restart Lanczos (see ``core.krylov.thick_restart``).

    Data go through in chunks of ``problem.chunk`` rows, over the devices of a mesh where one is given; the columns of
    the basis lie over the same devices. A Krylov space of one vector sees one copy of a degenerate eigenvalue.

    Args:
        problem: the loss; a ``ShardedProblem`` brings its mesh.
        w: flat parameters (or pytree); default where the problem stands.
        options: which modes and how; default ``ModesOptions()``.
        mesh, axis: devices over which rows and the basis are spread.
        checkpoint: npz file, written every ``checkpoint_every`` seconds and at the end; a run that finds one of the
            same problem, point and settings goes on from it. As large as the basis.
        time_limit: seconds; Ctrl-C stops likewise at the next product and returns what is there.
        progress: called every eight products.
        **changes: fields of ``ModesOptions`` that replace those of ``options``.

    Raises:
        ArgumentError: counts or storage make no sense.
        DataError: the point is not finite or of another size.
        StoreError: the checkpoint belongs to another run, or cannot be read or written.
        ArithmeticError: a product is not finite.
    """
    problem = required(problem, "extreme_modes")
    if w is not None:
        problem = problem.at(w)
    how = chosen(ModesOptions, options, dict(changes))
    wanted = how.wanted(problem.size, problem.dtype)
    if isinstance(problem, ShardedProblem):
        mesh, axis = problem.mesh, problem.axis
    elif mesh is not None:
        problem = shard_data(problem, mesh, axis)
        mesh = problem.mesh
    point = to_host(problem.w)
    if not np.isfinite(point).all():
        raise DataError("w is not finite")
    over = _Over(mesh=mesh, axis=axis)
    devices = 1 if mesh is None else int(mesh.shape[axis])
    length = problem.size + -problem.size % devices
    product = padded_product(problem, length, mesh, axis)
    gradient = to_host(problem.gradient())
    state = thick_restart.basis(
        length,
        wanted.capacity,
        dtype=problem.dtype,
        storage=wanted.storage,
        seed=how.seed,
        order=problem.size,
        **over,
    )
    keep = None
    if checkpoint is not None:
        file = Checkpoint(Path(checkpoint), _KIND, checkpoint_every)
        facts: list[int | float | str] = [problem.size, wanted.lowest, wanted.highest, how.basis]
        facts += [str(wanted.storage), how.seed, digest(point)]
        # A basis of another loss at the same point would be wrong without a sign of it.
        keep = _Kept(file, [*facts, float(np.linalg.norm(gradient))])
        if file.path.exists():
            state = keep.restore(state, over)
    with stoppable(time_limit) as stop:
        state = _lanczos(state, product, stop, wanted, over, progress, keep)
        checked = _finished(state, product, stop, wanted, over, how.corrections)
        return _result(problem, state, checked, wanted, gradient, stop)


def _result(
    problem: Problem,
    state: thick_restart.Basis,
    checked: thick_restart.Checked,
    wanted: Wanted,
    gradient: np.ndarray,
    stop: Stop,
) -> ExtremeModes:
    """The record of a run that has ended."""
    good = bool((checked.residuals <= wanted.tolerance * np.max(np.abs(checked.values))).all())
    status = "converged" if good else stop.reason or "products"
    rows, low = to_host(checked.vectors)[:, : problem.size], min(wanted.lowest, state.filled)
    return ExtremeModes(
        lowest=checked.values[:low],
        highest=checked.values[low:],
        lowest_vectors=rows[:low],
        highest_vectors=rows[low:],
        lowest_residuals=checked.residuals[:low],
        highest_residuals=checked.residuals[low:],
        converged=good,
        status=status,
        products=state.products + checked.products,
        restarts=state.restarts,
        storage=str(wanted.storage),
        basis_bytes=int(state.rows.size) * wanted.storage.itemsize,
        gradient_rms=float(np.sqrt(np.mean(gradient.astype(float) ** 2))),
        seconds=stop.seconds,
    )


class _Kept(NamedTuple):
    """A run's file.

    Attributes:
        file: where and when.
        settings: what a file must agree with: counts, formats, seed, a digest of the point, |gradient| (roughly).
    """

    file: Checkpoint
    settings: list[int | float | str]

    def save(self, state: thick_restart.Basis, stop: Stop) -> None:
        """Write a basis; every process must call it."""
        rows, query = to_host(state.rows)[: state.filled], to_host(state.query)
        facts = {k: getattr(state, k) for k in ("filled", "products", "restarts", "exhausted")}
        arrays = {
            "rows": rows,
            "norms": state.norms,
            "query": query,
            "projected": state.projected,
            "coupling": state.coupling,
        }
        self.file.write({"settings": self.settings, **facts}, arrays, stop)

    def restore(self, empty: thick_restart.Basis, over: _Over) -> thick_restart.Basis:
        """The basis last written, in place of an empty one.

        Raises:
            StoreError: the file belongs to another run, or cannot be read.
        """
        head, arrays = self.file.read()
        *exact, gradient = head["settings"]
        if exact != self.settings[:-1] or not np.allclose(gradient, self.settings[-1], rtol=1e-4):
            raise StoreError(
                f"{self.file.path} belongs to another point, problem or settings; remove it or name another file"
            )
        rows = np.zeros(empty.rows.shape, empty.rows.dtype)
        rows[: head["filled"]] = arrays["rows"]
        return empty._replace(
            rows=_placed(rows, over, None),
            query=_placed(arrays["query"], over),
            norms=arrays["norms"],
            projected=arrays["projected"],
            coupling=arrays["coupling"],
            filled=int(head["filled"]),
            products=int(head["products"]),
            restarts=int(head["restarts"]),
            exhausted=bool(head["exhausted"]),
        )


def _placed(host: np.ndarray, over: _Over, *before: None) -> jax.Array:
    """An array whose last axis is spread over the devices, those before it not."""
    if over["mesh"] is None:
        return jnp.asarray(host)
    where = NamedSharding(over["mesh"], PartitionSpec(*before, over["axis"]))
    return jax.make_array_from_callback(host.shape, where, lambda part: host[part])


def _lanczos(
    state: thick_restart.Basis,
    product: Product,
    stop: Stop,
    wanted: Wanted,
    over: _Over,
    progress: Callable[[ModesProgress], None] | None,
    keep: _Kept | None,
) -> thick_restart.Basis:
    """Extend and restart the basis until it holds what is wanted, or the run must end."""
    lowest, highest = wanted.lowest, wanted.highest
    saved = state.products

    def over_now() -> bool:
        return bool(stop.reason and state.products) or state.products >= wanted.max_products

    while not enough(state, lowest, highest, wanted.tolerance) and not over_now():
        if state.filled == state.rows.shape[0]:
            state = thick_restart.restart(state, lowest, highest, **over)
        for _ in range(_STRIDE - state.products % _STRIDE):
            if over_now() or state.exhausted:
                break
            state = thick_restart.extend(state, product, 1, **over)
        if progress is not None:
            progress(_seen(state, lowest, highest, stop.seconds))
        if keep is not None and keep.file.due(stop):
            keep.save(state, stop)
            saved = state.products
    if keep is not None and saved != state.products:
        keep.save(state, stop)
    return state


def _seen(state: thick_restart.Basis, lowest: int, highest: int, seconds: float) -> ModesProgress:
    values, _, residuals = ritz_pairs(state.projected, state.coupling)
    low, high = values[:lowest], values[len(values) - min(highest, len(values)) :][::-1]
    worst = float(thick_restart.ends(residuals, len(low), len(high)).max() / np.abs(values).max())
    return ModesProgress(products=state.products, lowest=low, highest=high, residual=worst, seconds=seconds)


def _finished(
    state: thick_restart.Basis, product: Product, stop: Stop, wanted: Wanted, over: _Over, corrections: int
) -> thick_restart.Checked:
    """Ritz vectors with residuals from products of their own, corrected where the run was not cut short."""
    found = thick_restart.vectors(state, wanted.lowest, wanted.highest, **over)
    low = min(wanted.lowest, state.filled)
    if stop.reason == "interrupted":
        values, _, residuals = ritz_pairs(state.projected, state.coupling)
        ends = [thick_restart.ends(a, low, len(found) - low) for a in (values, residuals)]
        return thick_restart.Checked(vectors=found, values=ends[0], residuals=ends[1], products=0)
    rounds = 0 if stop.reason else corrections
    return thick_restart.correct(product, found, low, tolerance=wanted.tolerance, rounds=rounds, **over)
