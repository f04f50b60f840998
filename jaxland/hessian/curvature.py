"""The curvature of a loss at one point, computed once and used by everything else: products, solves, modes.

    H_d = H + d I,   H = Hessian (or generalised Gauss-Newton matrix) of the whole loss, regulariser included

The matrix is formed and factorised only for few parameters; else it is known by its products, inverted by conjugate
gradients that its own top modes deflate.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int

from jaxland.core.krylov import grown
from jaxland.errors import ArgumentError, ConvergenceError, DataError, ProblemError
from jaxland.hessian.gram import GramInverse
from jaxland.problem.problem import Problem
from jaxland.problem.products import Products


class CurvatureWarning(UserWarning):
    """The numbers are computed as asked but should be read with care; the message says why."""


class Solved(NamedTuple):
    """Solutions of H_d x = b.

    Attributes:
        x: [k, N].
        residuals: |b - H_d x| / |b| [k].
        iterations: of conjugate gradients [k]; 0 for a factorisation.
    """

    x: Float[Array, "k N"]
    residuals: Float[np.ndarray, " k"]
    iterations: Int[np.ndarray, " k"]


@dataclass
class Known:
    """What was computed of a curvature so far; shared by all dampings.

    Attributes:
        matrix: H [N, N].
        eigen: all eigenvalues [N], ascending, and eigenvectors in rows [N, N].
        krylov: the Lanczos factorisation as far as it has grown.
        gram: the inverse through rows x outputs.
        factors: by damping, the Cholesky factor of H_d as SciPy gives it; None where H_d is not positive definite.
        deflation: by damping, top eigenvalues [m] and eigenvectors [m, N] that deflate conjugate gradients.
        self_influence: by damping, g_i . H_d^-1 g_i, |H_d^-1 g_i| and the solves' residuals, each [n].
    """

    matrix: Float[np.ndarray, "N N"] | None = None
    eigen: tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N N"]] | None = None
    krylov: grown.Krylov | None = None
    gram: GramInverse | None = None
    factors: dict[float, tuple[Float[np.ndarray, "N N"], bool] | None] = field(default_factory=dict)
    deflation: dict[float, tuple[Float[np.ndarray, " m"], Float[Array, "m N"]]] = field(default_factory=dict)
    self_influence: dict[float, tuple[Float[np.ndarray, " n"], ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
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
        known: what was computed so far.
    """

    problem: Problem
    kind: str
    method: str
    damping: float
    damping_chosen: bool
    lowest: float = 0.0
    highest: float = 0.0
    gradient_norm: float
    stationarity: float
    tolerance: float
    max_iterations: int
    deflation: int
    warnings: tuple[str, ...] = ()
    products: Products = field(repr=False)
    known: Known = field(default_factory=Known, repr=False)

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
        return replace(self, damping=checked_damping(damping), damping_chosen=False)

    def product(self, vectors: Any) -> jax.Array:
        """H (without damping) times each row of vectors [k, N], or one vector [N]."""
        v = jnp.asarray(vectors, self.problem.dtype)
        if v.shape[-1] != self.size:
            raise ArgumentError(f"vectors must have {self.size} components, got {v.shape}")
        image = self.products.products(jnp.atleast_2d(v), self.problem.w, self.products.data)
        return image.reshape(v.shape)

    def matrix(self) -> Float[np.ndarray, "N N"]:
        """H as a symmetric float64 array on the host, formed once."""
        if self.known.matrix is None:
            from jaxland.hessian import solving

            self.known.matrix = solving.dense_matrix(self.products, self.problem.w)
        return self.known.matrix

    def eigensystem(self) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N N"]]:
        """All eigenvalues, ascending, and eigenvectors in rows, by LAPACK on the host, once."""
        if self.known.eigen is None:
            import scipy.linalg

            values, vectors = scipy.linalg.eigh(self.matrix(), driver="evd")
            self.known.eigen = values, vectors.T
        return self.known.eigen

    def factorisation(self) -> grown.Krylov | None:
        """The Lanczos factorisation as far as it has grown."""
        return self.known.krylov

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
        old = self.known.krylov if block == 1 else None
        try:
            found = grown.eigenpairs(
                self.times,
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
            self.known.krylov = found.factorisation
        return found

    def grow(self, vectors: int) -> grown.Krylov:
        """The Lanczos factorisation with so many vectors more."""
        if self.known.krylov is None:
            raise ArgumentError("there is no factorisation to grow: call modes first")
        self.known.krylov = grown.extend(self.known.krylov, self.times, vectors)
        return self.known.krylov

    def times(self, v: Float[Array, "k N"]) -> Float[Array, "k N"]:
        """H times each row, without the checks of ``product``."""
        return self.products.products(v, self.problem.w, self.products.data)

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
        from jaxland.hessian import solving

        if self.method == "explicit":
            return solving.explicit(self, b)
        if self.method == "gram":
            return solving.gram(self, b)
        return solving.by_products(self, b, self.tolerance if tolerance is None else tolerance)

    def save(self, path: str | Path) -> Path:
        """Write settings, parameters and whatever was computed (matrix, eigenpairs, modes) to an npz, no pickle.

        Raises:
            StoreError: the place cannot be written.
        """
        from jaxland.hessian import keeping

        return keeping.save(self, path)

    def to_pandas(self) -> pd.DataFrame:
        """The settings and findings as a one-row table."""
        facts = {name: getattr(self, name) for name in FACTS if name != "warnings"}
        return pd.DataFrame([{"parameters": self.size, "examples": self.n, **facts}])

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{note}</li>" for note in self.warnings)
        return self.to_pandas().T.to_html(header=False) + (f"<ul>{notes}</ul>" if notes else "")


FACTS = (
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


def checked_damping(damping: float) -> float:
    """As a float.

    Raises:
        ArgumentError: negative or not finite.
    """
    if not isinstance(damping, numbers.Real) or not np.isfinite(damping) or damping < 0:
        raise ArgumentError(f"damping must be finite and not negative, got {damping!r}")
    return float(damping)


def required(given: object, caller: str) -> Curvature:
    """The curvature.

    Raises:
        ProblemError: it is none, such as a model or a problem.
    """
    if isinstance(given, Curvature):
        return given
    raise ProblemError(
        f"{caller} takes a Curvature, got {type(given).__name__}: hessian.curvature(problem) makes one"
    )
