"""Information integrals of Gaussian mixtures by scrambled Sobol points, each with its error.

All are expectations of sums of log marginal densities under the mixture itself,

    I(X;Y)   = E[log p(x,y) - log p(x) - log p(y)]
    I(X;Y|Z) = E[log p(z) + log p(x,y,z) - log p(x,z) - log p(y,z)]

with marginals in closed form (component blocks) and the expectation stratified by component, by the same number of
points in each. Every integral has a scrambling of its own; the estimate proper is the mean over several, whose spread
states its error. One component is a Gaussian, where the log determinants give the integral exactly.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxland.core import mixture as gm
from jaxland.core import quadrature


class Term(NamedTuple):
    """sign * log p_of(z_at): density of coordinates ``of``, evaluated at coordinates ``at`` of the sample."""

    sign: int
    of: tuple[int, ...]
    at: tuple[int, ...]


def mutual(dx: int, dy: int) -> tuple[Term, ...]:
    """I(X;Y) of z = (x, y)."""
    x, y = tuple(range(dx)), tuple(range(dx, dx + dy))
    return Term(1, x + y, x + y), Term(-1, x, x), Term(-1, y, y)


def conditional(dx: int, dy: int, dz: int) -> tuple[Term, ...]:
    """I(X;Y|Z) of (x, y, z)."""
    x, y, z = (tuple(range(a, b)) for a, b in ((0, dx), (dx, dx + dy), (dx + dy, dx + dy + dz)))
    return Term(1, x + y + z, x + y + z), Term(1, z, z), Term(-1, x + z, x + z), Term(-1, y + z, y + z)


def divergence(d: int, *, reverse: bool = False) -> tuple[Term, ...]:
    """KL(p_x || p_y) of the two marginals of (x, y), or KL(p_y || p_x)."""
    x, y = tuple(range(d)), tuple(range(d, 2 * d))
    p, q = (y, x) if reverse else (x, y)
    return Term(1, p, p), Term(-1, q, p)


@partial(jax.jit, static_argnames=("terms",))
def _integrate(
    mixtures: gm.Mixture, which: Int[Array, " b"], table: Float[Array, "s d n"], *, terms: tuple[Term, ...]
) -> Float[Array, " b"]:
    """Integrals."""
    dtype = mixtures.mean.dtype

    def lane(args: tuple[gm.Mixture, Int[Array, ""]]) -> Float[Array, ""]:
        mixture, row = args
        normal = table[row]
        thetas = [gm.natural(gm.encode(gm.marginal(mixture, t.of))) for t in terms]

        def component(k: Int[Array, ""], total: Float[Array, ""]) -> Float[Array, ""]:
            z = mixture.mean[k][:, None] + mixture.chol[k] @ normal

            def value() -> Float[Array, ""]:
                out = jnp.zeros(z.shape[1], dtype)
                for term, theta in zip(terms, thetas):
                    log_joint = theta @ gm.features(z[np.asarray(term.at)])
                    out = out + term.sign * jax.scipy.special.logsumexp(log_joint, axis=0)
                return jnp.exp(mixture.log_weight[k]) * jnp.mean(out)

            alive = mixture.log_weight[k] > 0.5 * gm.DEAD
            return total + jax.lax.cond(alive, value, lambda: jnp.zeros((), dtype))

        return jax.lax.fori_loop(0, mixture.mean.shape[0], component, jnp.zeros((), dtype))

    return jax.lax.map(lane, (mixtures, which))


def integrate(
    mixtures: gm.Mixture, terms: tuple[Term, ...], seeds: np.ndarray, *, points: int = 2048, dtype: str = "float64"
) -> Float[np.ndarray, " b"]:
    """Values of an information integral, in nats.

    Args:
        mixtures: leading axis B.
        terms: ``mutual``, ``conditional`` or ``divergence``.
        seeds: one integer a mixture: its own scrambling.
        points: per component, rounded up to a power of two.
    """
    lanes = len(seeds)
    alive = np.asarray(mixtures.log_weight) > 0.5 * gm.DEAD
    values = np.zeros(lanes)
    single = alive.sum(1) == 1
    for b in np.flatnonzero(single):
        values[b] = _gaussian(mixtures, int(b), int(np.argmax(alive[b])), terms)
    many = np.flatnonzero(~single)
    if len(many):
        known, which = np.unique(seeds, return_inverse=True)
        table = _table(known, points, mixtures.mean.shape[-1], dtype)
        size = -(-len(many) // 64) * 64
        take = np.concatenate([many, np.repeat(many[:1], size - len(many))])
        part = gm.Mixture(*(jnp.asarray(np.asarray(a)[take], dtype) for a in mixtures))
        # Surplus lanes are dead mixtures: they cost nothing.
        part = part._replace(
            log_weight=jnp.where(jnp.arange(size)[:, None] < len(many), part.log_weight, gm.DEAD).astype(dtype)
        )
        own = jnp.asarray(which[take].astype(np.int32))
        for first in range(0, size, 64):
            some = slice(first, min(first + 64, size))
            got = _integrate(gm.Mixture(*(a[some] for a in part)), own[some], table, terms=terms)
            mine = many[first : first + 64]
            values[mine] = np.asarray(got)[: len(mine)]
    return values


def _table(seeds: np.ndarray, points: int, d: int, dtype: str) -> Float[Array, "s d n"]:
    """Normal points, one scrambling a seed, their number rounded up so that few shapes are compiled."""
    base = quadrature.sobol(1 << max(4, int(np.ceil(np.log2(points)))), d)
    rows = [quadrature.host_normals(int(seed), base) for seed in seeds]
    rows += rows[:1] * (-len(rows) % 64)
    return jnp.asarray(np.stack(rows), dtype)


def _gaussian(mixtures: gm.Mixture, lane: int, k: int, terms: tuple[Term, ...]) -> float:
    """Exact expectation for one component: E log p_of = -(d log 2 pi + log det S_of + tr(S_of^-1 M)) / 2."""
    mean = np.asarray(mixtures.mean[lane][k], np.float64)
    chol = np.asarray(mixtures.chol[lane][k], np.float64)
    cov = chol @ chol.T
    total = 0.0
    for term in terms:
        of, at = list(term.of), list(term.at)
        block = cov[np.ix_(of, of)]
        shift = mean[at] - mean[of]
        second = cov[np.ix_(at, at)] + np.outer(shift, shift)
        log_det = np.linalg.slogdet(block)[1]
        total -= 0.5 * term.sign * (len(of) * gm.LOG_2PI + log_det + np.trace(np.linalg.solve(block, second)))
    return float(total)


@jax.jit
def _integrate_classes(
    mixtures: gm.Mixture, log_share: Float[Array, "b c"], which: Int[Array, " b"], table: Float[Array, "s d n"]
) -> Float[Array, " b"]:
    """Integrals, sum_c share_c E_{p(x|c)}[log p(x|c) - log sum_j share_j p(x|j)]."""
    dtype = mixtures.mean.dtype

    def lane(args: tuple[gm.Mixture, Float[Array, " c"], Int[Array, ""]]) -> Float[Array, ""]:
        mixture, share, row = args
        classes, order, _ = mixture.mean.shape
        normal = table[row]
        theta = gm.natural(gm.encode(mixture))

        def component(i: Int[Array, ""], total: Float[Array, ""]) -> Float[Array, ""]:
            c, k = i // order, i % order
            z = mixture.mean[c, k][:, None] + mixture.chol[c, k] @ normal

            def value() -> Float[Array, ""]:
                phi = gm.features(z)
                log_p = jax.lax.map(lambda t: jax.scipy.special.logsumexp(t @ phi, axis=0), theta)  # [C, n]
                out = log_p[c] - jax.scipy.special.logsumexp(log_p + share[:, None], axis=0)
                return jnp.exp(share[c] + mixture.log_weight[c, k]) * jnp.mean(out)

            alive = (mixture.log_weight[c, k] > 0.5 * gm.DEAD) & (share[c] > 0.5 * gm.DEAD)
            return total + jax.lax.cond(alive, value, lambda: jnp.zeros((), dtype))

        return jax.lax.fori_loop(0, classes * order, component, jnp.zeros((), dtype))

    return jax.lax.map(lane, (mixtures, log_share, which))


def integrate_classes(
    mixtures: gm.Mixture,
    shares: Float[np.ndarray, "b c"],
    seeds: np.ndarray,
    *,
    points: int = 2048,
    dtype: str = "float64",
) -> Float[np.ndarray, " b"]:
    """I(X; C) of class-conditional mixtures [B, C, K, ...] and class shares, in nats."""
    known, which = np.unique(seeds, return_inverse=True)
    with np.errstate(divide="ignore"):
        log_share = np.where(shares > 0, np.log(np.maximum(shares, 1e-300)), gm.DEAD)
    table = _integrate_classes(
        gm.Mixture(*(jnp.asarray(a, dtype) for a in mixtures)),
        jnp.asarray(log_share, dtype),
        jnp.asarray(which.astype(np.int32)),
        _table(known, points, mixtures.mean.shape[-1], dtype),
    )
    return np.asarray(table)


def log_density(mixture: gm.Mixture, z: Float[np.ndarray, "d n"]) -> Float[np.ndarray, " n"]:
    """log p(z_n) of one mixture on the host."""
    alive = np.asarray(mixture.log_weight) > 0.5 * gm.DEAD
    inverse = np.linalg.inv(np.asarray(mixture.chol, np.float64)[alive])
    mean = np.asarray(mixture.mean, np.float64)[alive]
    log_det = np.log(np.diagonal(inverse, axis1=1, axis2=2)).sum(1)
    constant = np.asarray(mixture.log_weight, np.float64)[alive] - 0.5 * len(z) * gm.LOG_2PI + log_det
    quadratic = np.zeros((len(mean), z.shape[1]))
    for i in range(len(z)):
        u = sum(inverse[:, i, j, None] * (z[j] - mean[:, j, None]) for j in range(i + 1))
        quadratic += u * u
    log_joint = constant[:, None] - 0.5 * quadratic
    top = log_joint.max(0)
    return top + np.log(np.exp(log_joint - top).sum(0))
