"""The curvature of a loss at one point, computed once and used by everything else: products, solves, modes.

    H_d = H + d I,   H = Hessian (or generalised Gauss-Newton matrix) of the whole loss, regulariser included

The matrix is formed and factorised only for few parameters; else it is known by its products, inverted by conjugate
gradients that its own top modes deflate.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from jaxland.core.krylov import conjugate_gradients as solvers
from jaxland.core.krylov import grown
from jaxland.core.krylov.step import ritz_pairs
from jaxland.errors import ArgumentError, ConvergenceError, DataError, StoreError
from jaxland.hessian.gram import GramInverse, gram_applies
from jaxland.hessian.products import Products, products_of
from jaxland.problem.problem import Problem
from jaxland.runs import probes, read_npz, write_npz

EXPLICIT_LIMIT = 4000
METHODS = ("explicit", "products", "gram")

_KIND = "jaxland-curvature-1"


class CurvatureWarning(UserWarning):
    """The numbers are computed as asked but should be read with care; the message says why."""


class Solved(NamedTuple):
    """Solutions of H_d x = b.

    Attributes:
        x: [k, N].
        residuals: |b - H_d x| / |b| [k].
        iterations: of conjugate gradients [k]; 0 for a factorisation.
    """

    x: jax.Array
    residuals: np.ndarray
    iterations: np.ndarray


@dataclass(frozen=True, eq=False)
class Curvature:
    """Made by ``curvature``; see there for the arguments behind the attributes.

    Attributes:
        problem: the problem, standing at the point in question.
        kind: "hessian" or "gauss-newton".
        method: "explicit" (matrix, factorised on the host), "gram" or "products".
        damping: d of H_d = H + d I.
        damping_chosen: True where jaxland chose the damping.
        lowest, highest: extreme eigenvalues of H as a short Lanczos run saw them: the true ones lie at or outside.
        gradient_norm: |grad L|.
        stationarity: |grad L| over the root mean square of the per-example gradients' norms.
        tolerance, max_iterations: of conjugate gradients.
        deflation: most modes that deflate them.
        warnings: what the reader should distrust.
        products: the compiled products behind it all.
    """

    problem: Problem
    kind: str
    method: str
    damping: float
    damping_chosen: bool
    lowest: float
    highest: float
    gradient_norm: float
    stationarity: float
    tolerance: float
    max_iterations: int
    deflation: int
    warnings: tuple[str, ...]
    products: Products = field(repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False)

    # -- size and data ---------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of parameters N."""
        return self.problem.size

    @property
    def n(self) -> int:
        """Number of training examples."""
        return self.problem.n

    @property
    def positive_definite(self) -> bool:
        """Whether H_d is, as far as the eigenvalue estimates tell."""
        return self.lowest + self.damping > 0

    def with_damping(self, damping: float) -> Curvature:
        """The same curvature with another damping; matrix, modes and factorisations are shared."""
        return replace(self, damping=_checked_damping(damping), damping_chosen=False)

    def product(self, vectors: Any) -> jax.Array:
        """H (without damping) times each row of vectors [k, N], or one vector [N]."""
        v = jnp.asarray(vectors, self.problem.dtype)
        if v.shape[-1] != self.size:
            raise ArgumentError(f"vectors must have {self.size} components, got {v.shape}")
        image = self.products.products(jnp.atleast_2d(v), self.problem.w, self.products.data)
        return image.reshape(v.shape)

    # -- explicit --------------------------------------------------------------------------------------------------

    def matrix(self) -> np.ndarray:
        """H as a symmetric float64 array [N, N] on the host, formed once."""
        if "matrix" not in self._cache:
            self._cache["matrix"] = _dense(self.products, self.problem.w)
        return self._cache["matrix"]

    def eigensystem(self) -> tuple[np.ndarray, np.ndarray]:
        """All eigenvalues [N], ascending, and eigenvectors in rows [N, N], by LAPACK on the host, once."""
        if "eigen" not in self._cache:
            import scipy.linalg

            values, vectors = scipy.linalg.eigh(self.matrix(), driver="evd")
            self._cache["eigen"] = values, vectors.T
        return self._cache["eigen"]

    def _factor(self) -> Any:
        """Cholesky factor of H_d, or None where H_d is not positive definite."""
        import scipy.linalg

        key = ("factor", self.damping)
        if key not in self._cache:
            for old in [k for k in self._cache if isinstance(k, tuple) and k[0] == "factor"][3:]:
                del self._cache[old]
            damped = self.matrix() + self.damping * np.eye(self.size)
            try:
                self._cache[key] = scipy.linalg.cho_factor(damped, lower=True, check_finite=False)
            except np.linalg.LinAlgError:
                self._cache[key] = None
        return self._cache[key]

    def _solve_explicit(self, b: np.ndarray) -> np.ndarray:
        import scipy.linalg

        factor = self._factor() if "eigen" not in self._cache else None
        if factor is not None:
            return scipy.linalg.cho_solve(factor, b.T, check_finite=False).T
        values, vectors = self.eigensystem()
        damped = values + self.damping
        nearest = float(np.min(np.abs(damped)))
        if nearest <= 1e-13 * max(float(np.max(np.abs(values))), 1e-300):
            raise ConvergenceError(
                f"H + {self.damping:g} I is singular (an eigenvalue of {nearest:.1e} beside a largest of "
                f"{np.max(np.abs(values)):.1e}): use a damping above {max(0.0, -values[0]) + 1e-6 * values[-1]:.2g}"
            )
        if damped[0] < 0:
            note = (
                f"H + {self.damping:g} I has {int(np.sum(damped < 0))} negative eigenvalues, down to {damped[0]:.3g}"
            )
            python_warnings.warn(note, CurvatureWarning, stacklevel=4)
        return (b @ vectors.T / damped) @ vectors

    # -- modes -----------------------------------------------------------------------------------------------------

    def factorisation(self) -> grown.Krylov | None:
        """The Lanczos factorisation as far as it has grown."""
        return self._cache.get("krylov")

    def modes(
        self,
        lowest: int = 0,
        highest: int = 0,
        *,
        tolerance: float = 1e-8,
        max_products: int = 1000,
        block: int = 1,
        seed: int = 0,
    ) -> grown.Modes:
        """Modes at both ends with residuals; goes on with the Lanczos factorisation there is (``block`` 1).

        Args:
            lowest, highest: pairs wanted.
            tolerance: on residuals, relative to the largest |eigenvalue|.
            max_products: the factorisation is not grown beyond so many vectors.
            block: vectors multiplied at once; above 1 it sees that many copies of a degenerate eigenvalue, from a
                factorisation of its own.
            seed: of the start vectors.
        """
        if lowest < 0 or highest < 0:
            raise ArgumentError(f"lowest and highest must not be negative, got {lowest} and {highest}")
        old = self._cache.get("krylov") if block == 1 else None
        try:
            found = grown.eigenpairs(
                self._bound_product,
                self.size,
                lowest=lowest,
                highest=highest,
                tolerance=tolerance,
                max_products=max_products,
                block=block,
                dtype=self.problem.dtype,
                seed=seed,
                factorisation=old,
            )
        except ArithmeticError as error:
            raise ConvergenceError(f"Hessian-vector products are not finite at these parameters ({error})") from error
        if block == 1:
            self._cache["krylov"] = found.factorisation
        return found

    def _bound_product(self, v: jax.Array) -> jax.Array:
        return self.products.products(v, self.problem.w, self.products.data)

    def _deflation(self) -> solvers.Deflation | None:
        """Top modes worth deflating by: above the damping and resolved."""
        values: np.ndarray
        vectors: Any
        if self.deflation <= 0:
            return None
        if "eigen" in self._cache:
            values, vectors = self.eigensystem()
            keep = np.flatnonzero(values > self.damping)[::-1][: self.deflation]
            values, vectors = values[keep], vectors[keep]
        else:
            key = ("deflation", self.damping)
            if key not in self._cache:
                self._cache[key] = _resolved_top(self)
            values, vectors = self._cache[key]
        if not len(values):
            return None
        dtype = self.problem.dtype
        return solvers.Deflation(jnp.asarray(values, dtype), jnp.asarray(vectors, dtype))

    # -- solves ----------------------------------------------------------------------------------------------------

    def solve(self, b: Any, *, tolerance: float | None = None) -> Solved:
        """x with H_d x = b for every row of b [k, N].

        Raises:
            ConvergenceError: H_d is singular (explicit), or negative curvature or no convergence (products).
        """
        b = jnp.atleast_2d(jnp.asarray(b, self.problem.dtype))
        if b.shape[1] != self.size:
            raise ArgumentError(f"right-hand sides must have {self.size} components, got {b.shape}")
        if not bool(jnp.isfinite(b).all()):
            row = int(jnp.argmin(jnp.isfinite(b).all(axis=1)))
            raise DataError(f"gradient {row} is not finite: check the model's outputs and loss at that point")
        zeros = np.zeros(len(b), int)
        if self.method == "explicit":
            right = np.asarray(b, float)
            x = self._solve_explicit(right)
            error = right - x @ self.matrix() - self.damping * x
            return Solved(jnp.asarray(x, b.dtype), _relative(error, right), zeros)
        if self.method == "gram":
            if "gram" not in self._cache:
                self._cache["gram"] = GramInverse(self.products, self.problem.w)
            x = self._cache["gram"].solve(b, self.damping)
            error = np.asarray(b - self._bound_product(x) - self.damping * x, float)
            return Solved(x, _relative(error, np.asarray(b, float)), zeros)
        return self._solve_products(b, self.tolerance if tolerance is None else tolerance)

    def _solve_products(self, b: jax.Array, tolerance: float) -> Solved:
        modes = self._deflation()
        batch = int(np.clip(2**26 // self.size, 1, 32))
        parts = []
        for start in range(0, len(b), batch):
            found = solvers.conjugate_gradients(
                self.products.product,
                b[start : start + batch],
                (self.problem.w, self.products.data),
                damping=self.damping,
                tolerance=tolerance,
                max_iterations=self.max_iterations,
                modes=modes,
            )
            self._judge(found, tolerance)
            parts.append(Solved(found.x, np.asarray(found.residuals, float), np.asarray(found.iterations)))
        return Solved(
            jnp.concatenate([p.x for p in parts]),
            np.concatenate([p.residuals for p in parts]),
            np.concatenate([p.iterations for p in parts]),
        )

    def _judge(self, found: solvers.Solution, tolerance: float) -> None:
        if bool(found.negative.any()):
            seen = min(float(jnp.min(found.rayleigh)), self.lowest)
            raise ConvergenceError(
                f"negative curvature: H + {self.damping:g} I is not positive definite (H has curvature {seen:.3g} or "
                f"less along some direction). Use a damping above {1.1 * abs(seen):.2g}, or kind='gauss-newton'"
            )
        residual = float(jnp.max(jnp.where(jnp.isfinite(found.residuals), found.residuals, jnp.inf)))
        limit = max(10 * tolerance, 1e3 * float(jnp.finfo(found.x.dtype).eps))
        if residual > limit:
            raise ConvergenceError(
                f"conjugate gradients reached a relative residual of {residual:.1e}, not {tolerance:.1e}, in "
                f"{int(jnp.max(found.iterations))} steps at damping {self.damping:g}: raise max_iterations, the "
                f"damping or deflation (now {self.deflation} modes), or use float64"
            )

    # -- keeping ---------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write settings, parameters and whatever was computed (matrix, eigenpairs, modes) to an npz, no pickle."""
        head = {
            **{k: getattr(self, k) for k in _SAVED},
            "n": self.n,
            "fingerprint": probes(self.problem, self.problem.w),
        }
        arrays: dict[str, Any] = {"w": np.asarray(self.problem.w)}
        if "matrix" in self._cache:
            arrays["matrix"] = self._cache["matrix"]
        if "eigen" in self._cache:
            arrays["eigenvalues"], arrays["eigenvectors"] = self._cache["eigen"]
        fact = self._cache.get("krylov")
        if fact is not None:
            arrays |= {
                "basis": np.concatenate([np.asarray(p) for p in fact.panels]),
                "panel": np.array(fact.panels[0].shape[0]),
                "projected": fact.projected,
                "coupling": fact.coupling,
                "query": np.asarray(fact.query),
                "state": np.array([fact.filled, int(fact.exhausted), fact.seed]),
            }
        return write_npz(path, _KIND, head, arrays)

    @classmethod
    def load(cls, path: str | Path, problem: Problem, *, mesh: Mesh | None = None) -> Curvature:
        """Read what ``save`` wrote; ``problem`` must be the one it was computed for (at any parameters).

        Raises:
            DataError: the file is missing, damaged, or of another problem.
        """
        if not Path(path).exists():
            raise DataError(f"curvature file {path} does not exist")
        try:
            head, arrays = read_npz(path, _KIND, sealed=False)
        except StoreError as error:
            raise DataError(f"{path} is not a curvature file written by jaxland ({error})") from error
        if arrays["w"].shape != (problem.size,) or head["n"] != problem.n:
            raise DataError(
                f"{path} belongs to a problem with {arrays['w'].size} parameters and {head['n']} rows, this one has "
                f"{problem.size} and {problem.n}"
            )
        products = products_of(problem, head["kind"], mesh)
        problem = problem.at(jnp.asarray(arrays["w"], problem.dtype))
        if not np.allclose(probes(problem, problem.w), head["fingerprint"], rtol=1e-5, atol=1e-12):
            raise DataError(f"{path} belongs to other data or another loss: the loss at its parameters differs")
        cache: dict[Any, Any] = {}
        if "matrix" in arrays:
            cache["matrix"] = arrays["matrix"]
        if "eigenvalues" in arrays:
            cache["eigen"] = arrays["eigenvalues"], arrays["eigenvectors"]
        if "basis" in arrays:
            rows, basis = int(arrays["panel"]), arrays["basis"]
            filled, exhausted, seed = (int(v) for v in arrays["state"])
            cache["krylov"] = grown.Krylov(
                tuple(jnp.asarray(basis[i : i + rows]) for i in range(0, len(basis), rows)),
                arrays["projected"],
                arrays["coupling"],
                jnp.asarray(arrays["query"]),
                filled,
                bool(exhausted),
                seed,
            )
        settings = {k: head[k] for k in _SAVED}
        settings["warnings"] = tuple(settings["warnings"])
        return cls(problem=problem, products=products, _cache=cache, **settings)

    def to_pandas(self) -> Any:
        """The settings and findings as a one-row table."""
        import pandas as pd

        row = {k: getattr(self, k) for k in _SAVED if k != "warnings"}
        return pd.DataFrame([{"parameters": self.size, "examples": self.n, **row}])

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{note}</li>" for note in self.warnings)
        return self.to_pandas().T.to_html(header=False) + (f"<ul>{notes}</ul>" if notes else "")


_SAVED = (
    "kind",
    "method",
    "damping",
    "damping_chosen",
    "lowest",
    "highest",
    "gradient_norm",
    "stationarity",
    "tolerance",
    "max_iterations",
    "deflation",
    "warnings",
)


def curvature(
    problem: Problem,
    w: Any = None,
    *,
    kind: str = "hessian",
    damping: float | None = None,
    method: str = "auto",
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
    deflation: int = 100,
    matrix: Any = None,
    mesh: Mesh | None = None,
    seed: int = 0,
) -> Curvature:
    """Curvature of a problem's loss at one point: once, for influence, uncertainty, extrapolation and spectrum.

    Args:
        problem: any ``Problem``; a plain energy has a spectrum only.
        w: where (flat vector or pytree); default the problem's own parameters.
        kind: "hessian", or "gauss-newton" (positive semidefinite for convex losses of the outputs).
        damping: d of H + d I. None: 0 where the lowest eigenvalue is safely positive, else 1.2 times its modulus, at
            least 1e-4 times the largest; results then carry a sweep over larger dampings.
        method: "explicit" (the matrix; default up to 4,000 parameters), "products", "gram" (exact inverse of a
            Gauss-Newton matrix through rows x outputs, where that is far below the number of parameters), "auto".
        tolerance: relative residual of solves by products.
        max_iterations: of conjugate gradients.
        deflation: most top modes to deflate by.
        matrix: a curvature matrix [N, N] computed elsewhere, to be used instead of the problem's own.
        mesh: spread the rows over these devices.
        seed: of the Lanczos start vector.

    Raises:
        DataError: losses or gradients that are not finite, with the row.
        ArgumentError, ProblemError: arguments that make no sense for this problem.
        ConvergenceError: Hessian-vector products are not finite.

    Warns:
        CurvatureWarning: not at a stationary point; H_d is not positive definite; dropout or batch statistics active.
    """
    products = products_of(problem, kind, mesh)
    if w is not None:
        problem = problem.at(w)
    if not bool(jnp.isfinite(problem.w).all()):
        raise DataError(f"parameter {int(jnp.argmin(jnp.isfinite(problem.w)))} is not finite")
    if not 0 < tolerance < 1:
        raise ArgumentError(f"tolerance must be between 0 and 1, got {tolerance}")
    if damping is not None:
        damping = _checked_damping(damping)
    method = _chosen_method(problem, products, method if matrix is None else "explicit")
    gradient = products.gradient(problem.w, products.data)
    notes = list(_model_notes(problem))
    norm = float(jnp.linalg.norm(gradient))
    scale = _gradient_scale(products, problem) if not products.plain else 1.0
    if not np.isfinite(norm):
        raise DataError("the gradient of the loss is not finite at these parameters")
    stationarity = norm / scale if scale > 0 else 0.0
    if stationarity > 1e-2:
        notes.append(
            f"not a stationary point: |grad L| = {norm:.2g}, {stationarity:.2g} of a typical example's gradient. "
            "Train further before trusting influence, uncertainty or extrapolation"
        )
    made = Curvature(
        problem, kind, method, 0.0 if damping is None else damping, damping is None, 0.0, 0.0, norm, stationarity,
        tolerance, max_iterations, deflation, (), products,
    )  # fmt: skip
    if matrix is not None:
        made._cache["matrix"] = _checked_matrix(matrix, problem.size)
    low, high, slack = _extremes(made, seed)
    chosen = damping if damping is not None else _default_damping(low, high, slack)
    if low + chosen < 0:
        notes.append(
            f"H + {chosen:g} I is not positive definite: the lowest eigenvalue of H is {low:.3g} or less. Use a "
            f"damping above {1.1 * abs(low):.2g}, or kind='gauss-newton'"
        )
    for note in notes:
        python_warnings.warn(note, CurvatureWarning, stacklevel=2)
    return replace(made, damping=float(chosen), lowest=low, highest=high, warnings=tuple(notes))


def _checked_damping(damping: float) -> float:
    if not np.isfinite(damping) or damping < 0:
        raise ArgumentError(f"damping must be finite and not negative, got {damping}")
    return float(damping)


def _checked_matrix(matrix: Any, size: int) -> np.ndarray:
    h = np.asarray(matrix, float)
    if h.shape != (size, size) or not np.isfinite(h).all():
        raise DataError(f"matrix must be finite and of shape ({size}, {size}), got {h.shape}")
    if np.max(np.abs(h - h.T)) > 1e-3 * np.max(np.abs(h)):
        raise DataError("matrix is not symmetric")
    return (h + h.T) / 2


def _chosen_method(problem: Problem, products: Products, method: str) -> str:
    if method == "auto":
        if problem.size <= EXPLICIT_LIMIT:
            return "explicit"
        return "gram" if gram_applies(products, limit=min(problem.size // 4, EXPLICIT_LIMIT)) else "products"
    if method not in METHODS:
        raise ArgumentError(f"method {method!r} is unknown; choose auto, {', '.join(METHODS)}")
    if method == "gram" and not gram_applies(products, limit=None):
        raise ArgumentError("method 'gram' needs kind='gauss-newton', one device, and no regulariser but l2")
    if method == "explicit" and problem.size > 20_000:
        raise ArgumentError(
            f"an explicit matrix of {problem.size} parameters takes {problem.size**2 * 8 / 1e9:.0f} GB: use "
            "method='products'"
        )
    return method


def _default_damping(low: float, high: float, slack: float) -> float:
    if low - slack > 1e-6 * high:
        return 0.0
    least = 1.2 * max(0.0, min(slack, 0.2 * abs(low)) - low)
    return max(least, 1e-4 * max(high, 0.0), float(np.finfo(float).tiny))


def _extremes(made: Curvature, seed: int) -> tuple[float, float, float]:
    """Extreme Ritz values, and the residual of the lowest: the nearest eigenvalue is no farther than that."""
    if "matrix" in made._cache:
        values = np.linalg.eigvalsh(made._cache["matrix"])
        return float(values[0]), float(values[-1]), 0.0
    found = made.modes(1, 1, tolerance=1e-4, max_products=int(min(made.size, 96)), seed=seed)
    slack = 0.0 if found.factorisation.exhausted else float(found.lowest.residuals[0])
    return float(found.lowest.values[0]), float(found.highest.values[0]), slack


def _resolved_top(made: Curvature) -> tuple[np.ndarray, jax.Array]:
    """Top Ritz pairs above the damping whose residual is below a tenth of their value, from a grown factorisation."""
    wanted = min(made.deflation, made.size // 3)
    steps = int(min(made.size, max(64, 2.5 * wanted)))
    while True:
        fact = made._cache["krylov"]
        values, _, residuals = ritz_pairs(fact.projected, fact.coupling)
        above = values > made.damping
        settled = above & (residuals <= 1e-2 * np.abs(values))
        if fact.exhausted or fact.filled >= steps or (above.sum() and settled.sum() >= min(wanted, above.sum())):
            break
        made._cache["krylov"] = grown.extend(fact, made._bound_product, min(48, steps - fact.filled))
    values, coefficients, residuals = ritz_pairs(fact.projected, fact.coupling)
    keep = np.flatnonzero((values > made.damping) & (residuals <= 0.1 * np.abs(values)))[::-1][:wanted]
    return values[keep], grown.combine(fact, coefficients[:, keep])


def _dense(products: Products, w: jax.Array) -> np.ndarray:
    n = w.size
    batch = min(n, 64)
    h = np.empty((n, n))
    for start in range(0, n, batch):
        first = min(start, n - batch)
        rows = jnp.zeros((batch, n), w.dtype).at[jnp.arange(batch), first + jnp.arange(batch)].set(1)
        h[first : first + batch] = np.asarray(products.products(rows, w, products.data))
    h = (h + h.T) / 2
    if not np.isfinite(h).all():
        raise ConvergenceError(f"the curvature is not finite in parameter {int(np.argwhere(~np.isfinite(h))[0][0])}")
    return h


def _gradient_scale(products: Products, problem: Problem) -> float:
    """Root mean square norm of per-example gradients (of at most 256 rows); names rows that are not finite."""
    losses = np.asarray(problem.losses(), float)
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        raise DataError(f"the loss of {len(bad)} training rows is not finite; the first is row {bad[0]}")
    small = problem.n * problem.size <= 2e7
    picked = range(problem.n) if small else range(0, problem.n, -(-problem.n // 256))
    total, count = 0.0, 0
    rows = np.fromiter(picked, int)
    step = max(1, min(256, int(2**24 // problem.size)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        block = jax.tree.map(lambda a, part=part: a[part], problem.data)
        squares = np.asarray(jnp.sum(products._block_gradients(problem.w, *block) ** 2, axis=1), float)
        if not np.isfinite(squares).all():
            raise DataError(f"the gradient of training row {part[np.argmin(np.isfinite(squares))]} is not finite")
        total, count = total + float(squares.sum()), count + len(part)
    return (total / count) ** 0.5


def _model_notes(problem: Problem) -> Iterator[str]:
    """Dropout gives one input two outputs within a batch; batch statistics let other rows change a row's output."""
    if problem.model is None or problem.n < 2:
        return
    first = jax.tree.map(lambda a: a[:1], problem.x)
    twice = jax.tree.map(lambda a: jnp.concatenate([a[:1], a[:1], a[1:2]]), problem.x)
    alone = np.asarray(problem.predict(None, first)[0], float)
    together = np.asarray(problem.predict(None, twice), float)
    size = float(np.max(np.abs(together))) + 1e-30
    slack = 1e3 * float(np.finfo(problem.dtype).eps) * size
    if np.max(np.abs(together[0] - together[1])) > slack:
        yield "the model gives one input different outputs: switch dropout off (module.eval(), or deterministic=True)"
    elif np.max(np.abs(together[0] - alone)) > slack:
        yield "a row's output depends on the other rows: switch batch statistics to their stored averages (eval mode)"


def _relative(error: np.ndarray, right: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(right, axis=1)
    return np.linalg.norm(error, axis=1) / np.where(size > 0, size, 1)


def mode_matrix(found: grown.Eigenpairs) -> Float[np.ndarray, "k N"]:
    """Vectors of some modes as float64 rows on the host."""
    return np.asarray(found.vectors, float)
