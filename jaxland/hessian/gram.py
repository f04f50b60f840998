"""Exact inverse of a damped Gauss-Newton matrix through the Gram matrix of rows x outputs.

With G = A^T A, A = (S^1/2 J) / sqrt(n) of n C rows, and delta = damping + 2 l2 (Woodbury):

    (A^T A + delta I)^-1 = (I - A^T (delta I + A A^T)^-1 A) / delta
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ConvergenceError
from jaxland.hessian.quantity import Tree
from jaxland.problem.losses import L2
from jaxland.problem.products import Products


def gram_applies(products: Products, limit: int | None) -> bool:
    """Whether the matrix has that form, and rows x outputs are at most ``limit``."""
    problem = products.problem
    fits = products.kind == "gauss-newton" and products.mesh is None
    if not fits or not (problem.regulariser is None or isinstance(problem.regulariser, L2)):
        return False
    outputs = _outputs(products)
    return outputs > 0 and (limit is None or problem.n * outputs <= limit)


def _outputs(products: Products) -> int:
    """Outputs of a row; 0 where they are several arrays."""
    problem = products.problem
    one = jax.tree.map(lambda a: a[:1], problem.x)
    outputs = jax.eval_shape(problem.outputs_of, problem.w, one)
    return int(np.prod(outputs.shape[1:])) if hasattr(outputs, "shape") else 0


class GramInverse:
    """Factors rows x outputs once per damping; memory (n C)^2."""

    def __init__(self, products: Products, w: jax.Array) -> None:
        problem = products.problem
        x, y = problem.data
        output_loss = problem.output_loss
        assert output_loss is not None
        self.w, self.n = w, problem.n
        self.l2 = 2.0 * problem.regulariser.lam if isinstance(problem.regulariser, L2) else 0.0
        z = problem.predict(w)
        shape = z.shape

        def curvature_root(row: jax.Array, target: Tree) -> jax.Array:
            s = jax.hessian(lambda u: output_loss(u.reshape((1,) + shape[1:]), target[None])[0])(row.ravel())
            values, vectors = jnp.linalg.eigh((s + s.T) / 2)
            return (vectors * jnp.sqrt(jnp.maximum(values, 0))) @ vectors.T

        self.root = jax.jit(jax.vmap(curvature_root))(z, y)
        scale = 1.0 / self.n**0.5

        @jax.jit
        def forward(v: jax.Array, root: jax.Array, at: jax.Array, rows: Tree) -> jax.Array:
            push = jax.linearize(lambda u: problem.outputs_of(u, rows), at)[1]
            images = jax.vmap(push)(v).reshape(v.shape[0], shape[0], -1)
            return scale * jnp.einsum("ncd,knd->knc", root, images).reshape(v.shape[0], -1)

        @jax.jit
        def backward(u: jax.Array, root: jax.Array, at: jax.Array, rows: Tree) -> jax.Array:
            pull = jax.vjp(lambda t: problem.outputs_of(t, rows), at)[1]
            seeds = jnp.einsum("ncd,knc->knd", root, u.reshape(u.shape[0], shape[0], -1))
            return scale * jax.vmap(lambda s: pull(s.reshape(shape))[0])(seeds)

        self.forward = lambda v: forward(v, self.root, w, x)
        self.backward = lambda u: backward(u, self.root, w, x)
        m = int(np.prod(shape))
        self.gram = np.empty((m, m))
        batch = min(m, max(1, min(64, 2**24 // w.size)))
        for start in range(0, m, batch):
            first = min(start, m - batch)
            unit = jnp.zeros((batch, m), w.dtype).at[jnp.arange(batch), first + jnp.arange(batch)].set(1)
            self.gram[first : first + batch] = np.asarray(self.forward(self.backward(unit)))
        self.factors: dict[float, tuple[np.ndarray, bool]] = {}

    def solve(self, b: jax.Array, damping: float) -> jax.Array:
        """(G + l2 Hessian + damping I)^-1 b for rows b [k, N]."""
        import scipy.linalg

        delta = damping + self.l2
        if delta <= 0:
            raise ConvergenceError("a Gauss-Newton matrix of fewer rows than parameters is singular: give a damping")
        if delta not in self.factors:
            symmetric = (self.gram + self.gram.T) / 2 + delta * np.eye(len(self.gram))
            self.factors[delta] = scipy.linalg.cho_factor(symmetric, lower=True)
        inner = scipy.linalg.cho_solve(self.factors[delta], np.asarray(self.forward(b), float).T).T
        return (b - self.backward(jnp.asarray(inner, b.dtype))) / delta
