"""Lowest and highest Hessian modes of networks too large for a matrix: products over chunks of data and devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float

from jaxland.core.energy import derivatives as curvature
from jaxland.core.krylov import thick_restart
from jaxland.core.krylov.step import enough, ritz_pairs
from jaxland.core.solvers.auto_band import loops_on_host
from jaxland.errors import ArgumentError, DataError, StoreError
from jaxland.problem.problem import Problem
from jaxland.problem.rows import ShardedProblem, shard_data, to_host
from jaxland.runs import Stop, digest, is_writer, read_npz, stoppable, write_npz

_KIND = "jaxland-lanczos-2"
_STRIDE = 8


class ModesProgress(NamedTuple):
    """Products so far, the Ritz values at both ends, their relative residuals by the recurrence, seconds."""

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


def extreme_modes(
    problem: Problem,
    w: Any = None,
    *,
    lowest: int = 5,
    highest: int = 5,
    basis: int = 64,
    storage: str | None = None,
    mesh: Mesh | None = None,
    axis: str = "data",
    tolerance: float | None = None,
    max_products: int = 500,
    corrections: int = 2,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 300.0,
    time_limit: float | None = None,
    progress: Callable[[ModesProgress], None] | None = None,
    seed: int = 0,
) -> ExtremeModes:
    """Lowest and highest Hessian eigenpairs by thick-restart Lanczos (see ``core.thick_restart``).

    Data go through in chunks of ``problem.chunk`` rows, over the devices of a mesh where one is given; the columns of
    the basis lie over the same devices. A Krylov space of one vector sees one copy of a degenerate eigenvalue.

    Args:
        problem: the loss; a ``ShardedProblem`` brings its mesh.
        w: flat parameters (or pytree); default where the problem stands.
        lowest, highest: modes wanted at each end.
        basis: vectors stored at most; the run restarts within them.
        storage: "bfloat16" halves the memory of a float32 basis: see ``corrections``. Default: of the parameters.
        mesh, axis: devices over which rows and the basis are spread.
        tolerance: on residuals, relative to the largest |eigenvalue|; default 1e-3 in float32, 1e-8 in float64.
        max_products: Lanczos products at most.
        corrections: rounds of Rayleigh-Ritz on vectors and residuals in full precision, taken while residuals exceed
            the tolerance; each costs two products a mode and three vectors a mode of memory.
        checkpoint: npz file, written every ``checkpoint_every`` seconds and at the end; a run that finds one of the
            same problem, point and settings goes on from it. As large as the basis.
        time_limit: seconds; Ctrl-C stops likewise at the next product and returns what is there.
        progress: called every eight products.
        seed: of the start vector.

    Raises:
        ArgumentError: counts or storage make no sense.
        DataError: the point is not finite or of another size.
        StoreError: the checkpoint belongs to another run, or cannot be read or written.
        ArithmeticError: a product is not finite.
    """
    if w is not None:
        problem = problem.at(w)
    size, dtype = problem.size, problem.dtype
    lowest, highest = min(lowest, size), min(highest, size)
    if lowest < 0 or highest < 0 or lowest + highest < 1:
        raise ArgumentError(f"lowest and highest must not be negative and not both 0, got {lowest} and {highest}")
    if basis < lowest + highest + 6 and basis < size:
        raise ArgumentError(f"basis must hold at least lowest + highest + 6 = {lowest + highest + 6} vectors")
    try:
        stored = np.dtype(jnp.dtype(storage or dtype))
    except TypeError as error:
        raise ArgumentError(f"storage {storage!r} is not a floating-point format; try 'bfloat16'") from error
    if not jnp.issubdtype(stored, jnp.floating):
        raise ArgumentError(f"storage {storage!r} is not a floating-point format; try 'bfloat16'")
    if isinstance(problem, ShardedProblem):
        mesh, axis = problem.mesh, problem.axis
    elif mesh is not None:
        problem = shard_data(problem, mesh, axis)
        mesh = problem.mesh
    point = to_host(problem.w)
    if not np.isfinite(point).all():
        raise DataError("w is not finite")
    if tolerance is None:
        tolerance = 1e-8 if dtype == np.float64 else 1e-3
    devices = 1 if mesh is None else int(mesh.shape[axis])
    length = size + -size % devices
    product = _product(problem, length, mesh, axis)
    over: dict[str, Any] = {"mesh": mesh, "axis": axis}
    settings = [size, lowest, highest, basis, str(stored), seed, digest(point)]
    # A basis of another loss at the same point would be wrong without a sign of it.
    gradient = to_host(problem.gradient())
    settings.append(float(np.linalg.norm(gradient)))

    capacity = max(min(basis, size), 1)
    state = thick_restart.basis(
        length, capacity, dtype=dtype, storage=stored, mesh=mesh, axis=axis, seed=seed, order=size
    )
    if checkpoint is not None and Path(checkpoint).exists():
        state = _restore(Path(checkpoint), settings, state, mesh, axis)
    with stoppable(time_limit) as stop:
        state = _lanczos(
            state, product, stop, lowest, highest, tolerance, max_products, over, progress,
            None if checkpoint is None else (Path(checkpoint), settings, checkpoint_every),
        )  # fmt: skip
        found = thick_restart.vectors(state, lowest, highest, **over)
        low = min(lowest, state.filled)
        if stop.reason == "interrupted":
            values, _, residuals = ritz_pairs(state.projected, state.coupling)
            ends = [thick_restart.ends(a, low, len(found) - low) for a in (values, residuals)]
            checked = thick_restart.Checked(found, ends[0], ends[1], 0)
        else:
            rounds = 0 if stop.reason else corrections
            checked = thick_restart.correct(product, found, low, tolerance=tolerance, rounds=rounds, **over)
        good = bool((checked.residuals <= tolerance * np.max(np.abs(checked.values))).all())
        status = "converged" if good else stop.reason or "products"
        seconds = stop.seconds
    rows = to_host(checked.vectors)[:, :size]
    return ExtremeModes(
        checked.values[:low], checked.values[low:], rows[:low], rows[low:], checked.residuals[:low],
        checked.residuals[low:], good, status, state.products + checked.products, state.restarts, str(stored),
        int(state.rows.size) * stored.itemsize, float(np.sqrt(np.mean(gradient.astype(float) ** 2))), seconds,
    )  # fmt: skip


def _product(problem: Problem, length: int, mesh: Mesh | None, axis: str) -> Callable[[jax.Array], jax.Array]:
    size, w, data = problem.size, problem.w, problem.data
    compiled = problem.__dict__.setdefault("_padded_products", {})
    if length not in compiled:
        energy = problem.energy_of

        def padded(w: jax.Array, v: jax.Array, data: Any) -> jax.Array:
            return jnp.pad(curvature.hvp(lambda u: energy(u, data), w, v[:size]), (0, length - size))

        where = None if mesh is None else NamedSharding(mesh, PartitionSpec(axis))
        compiled[length] = jax.jit(padded, out_shardings=where)
    if mesh is None and problem.loss is not None and problem.chunk is not None and problem.chunk < problem.n:
        sample = jax.tree.map(lambda a: a[:2], data)
        if loops_on_host(problem.energy_of, w, sample):
            return _hosted_product(problem)
    return lambda v: compiled[length](w, v, data)


def _hosted_product(problem: Problem) -> Callable[[jax.Array], jax.Array]:
    """Chunk after chunk from the host; the last one is filled up with rows that weigh nothing."""
    chunk, n, w = int(problem.chunk or problem.n), problem.n, problem.w
    reg, unravel = problem.regulariser, problem.unravel
    blocks = []
    for start in range(0, n, chunk):
        rows = np.minimum(np.arange(start, start + chunk), n - 1)
        weight = jnp.asarray(np.arange(start, start + chunk) < n, problem.dtype) / n
        blocks.append((*jax.tree.map(lambda a, rows=rows: a[rows], problem.data), weight))

    def part(w: jax.Array, v: jax.Array, x: Any, y: Any, weight: jax.Array) -> jax.Array:
        return curvature.hvp(lambda u: jnp.sum(weight * problem.losses_of(u, x, y)), w, v)

    known = problem.__dict__.setdefault("_hosted_products", {})
    if not known:
        known["part"] = jax.jit(part)
        known["regulariser"] = (
            None if reg is None else jax.jit(lambda w, v: curvature.hvp(lambda u: reg(unravel(u)), w, v))
        )

    def product(v: jax.Array) -> jax.Array:
        total = sum(known["part"](w, v, *block) for block in blocks)
        return total if known["regulariser"] is None else total + known["regulariser"](w, v)

    return product


def _lanczos(
    state: thick_restart.Basis,
    product: Callable[[jax.Array], jax.Array],
    stop: Stop,
    lowest: int,
    highest: int,
    tolerance: float,
    max_products: int,
    over: dict[str, Any],
    progress: Callable[[ModesProgress], None] | None,
    keep: tuple[Path, list[Any], float] | None,
) -> thick_restart.Basis:
    written = stop.seconds
    saved = state.products
    while not enough(state, lowest, highest, tolerance):
        if (stop.reason and state.products) or state.products >= max_products:
            break
        if state.filled == state.rows.shape[0]:
            state = thick_restart.restart(state, lowest, highest, **over)
        for _ in range(_STRIDE - state.products % _STRIDE):
            if (stop.reason and state.products) or state.products >= max_products or state.exhausted:
                break
            state = thick_restart.extend(state, product, 1, **over)
        if progress is not None:
            values, _, residuals = ritz_pairs(state.projected, state.coupling)
            low, high = values[:lowest], values[len(values) - min(highest, len(values)) :][::-1]
            worst = float(thick_restart.ends(residuals, len(low), len(high)).max() / np.abs(values).max())
            progress(ModesProgress(state.products, low, high, worst, stop.seconds))
        if keep is not None and stop.passed(written, keep[2]):
            _save(keep[0], keep[1], state)
            written, saved = stop.seconds, state.products
    if keep is not None and saved != state.products:
        _save(keep[0], keep[1], state)
    return state


def _save(path: Path, settings: list[Any], state: thick_restart.Basis) -> None:
    rows, query = to_host(state.rows)[: state.filled], to_host(state.query)
    if is_writer():
        head = {
            "settings": settings,
            **{k: getattr(state, k) for k in ("filled", "products", "restarts", "exhausted")},
        }
        arrays = {
            "rows": rows,
            "norms": state.norms,
            "query": query,
            "projected": state.projected,
            "coupling": state.coupling,
        }
        write_npz(path, _KIND, head, arrays)


def _restore(
    path: Path, settings: list[Any], empty: thick_restart.Basis, mesh: Mesh | None, axis: str
) -> thick_restart.Basis:
    head, arrays = read_npz(path, _KIND, sealed=False)
    same = head["settings"][:-1] == settings[:-1] and np.allclose(head["settings"][-1], settings[-1], rtol=1e-4)
    if not same:
        raise StoreError(f"{path} belongs to another point, problem or settings; remove it or name another file")
    rows = np.zeros(empty.rows.shape, empty.rows.dtype)
    rows[: head["filled"]] = arrays["rows"]
    query = arrays["query"]
    if mesh is None:
        placed = jnp.asarray(rows), jnp.asarray(query)
    else:
        columns, vector = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((None, axis), (axis,)))
        placed = (
            jax.make_array_from_callback(rows.shape, columns, lambda part: rows[part]),
            jax.make_array_from_callback(query.shape, vector, lambda part: query[part]),
        )
    return empty._replace(
        rows=placed[0],
        query=placed[1],
        norms=arrays["norms"],
        projected=arrays["projected"],
        coupling=arrays["coupling"],
        filled=int(head["filled"]),
        products=int(head["products"]),
        restarts=int(head["restarts"]),
        exhausted=bool(head["exhausted"]),
    )
