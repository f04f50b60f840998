"""First mixtures for EM, on the host: seeds of several kinds, and larger mixtures cut from fitted ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxland.core.mixture.density import DEAD, Mixture, pad

START_KINDS = ("kmeans", "kicked", "points", "uniform", "random")


def start(
    z: Float[np.ndarray, "d n"],
    order: int,
    rng: np.random.Generator,
    *,
    kind: str = "kmeans",
    size: int | None = None,
) -> Mixture:
    """A first mixture of ``order`` components, on the host, padded with dead ones to ``size``.

    Args:
        z: standardised samples; at most 2,000 of them are looked at.
        kind: "kmeans" (seeds by k-means++, ten Lloyd passes, covariances of the cells), "kicked" (the same with means
            moved by a tenth of the cell's width), "points" (random samples, common covariance, plus noise), "uniform"
            (uniform in the box of the data), "random" (random responsibilities).
    """
    d, n = z.shape
    sample = z[:, rng.permutation(n)[:2000]].T
    whole = np.atleast_2d(np.cov(sample.T)) + 1e-6 * np.eye(d)
    share = np.full(order, 1.0 / order)
    cov = np.broadcast_to(whole / max(1.0, order ** (2.0 / d)), (order, d, d)).copy()
    if kind in ("kmeans", "kicked"):
        mean, label = _kmeans(sample, order, rng)
        for k in range(order):
            cell = sample[label == k]
            share[k] = max(len(cell), 1) / len(sample)
            if len(cell) > d + 1:
                cov[k] = np.atleast_2d(np.cov(cell.T)) + 1e-3 * cov[k]
        if kind == "kicked":
            mean = mean + 0.1 * np.sqrt(np.diagonal(cov, axis1=1, axis2=2)) * rng.normal(size=mean.shape)
    elif kind == "points":
        mean = sample[rng.choice(len(sample), order)] + 0.1 * rng.normal(size=(order, d)) * np.sqrt(np.diag(whole))
    elif kind == "uniform":
        mean = rng.uniform(sample.min(0), sample.max(0), size=(order, d))
    elif kind == "random":
        weight = rng.dirichlet(np.ones(order), size=len(sample))
        share = weight.mean(0)
        mean = (weight.T @ sample) / weight.sum(0)[:, None]
        cov = np.broadcast_to(whole, (order, d, d)).copy()
    else:
        raise ValueError(f"unknown start {kind!r}; choose one of {', '.join(START_KINDS)}")
    return pad(Mixture(np.log(share / share.sum()), mean, np.linalg.cholesky(cov)), size or order)


def split(
    mixture: Mixture, z: Float[np.ndarray, "d n"], order: int, rng: np.random.Generator, *, greedy: bool = True
) -> Mixture:
    """A larger mixture from a fitted one: its least Gaussian components are cut in two, on the host.

    How badly a component describes its samples is the skewness and excess kurtosis of their responsibility-weighted
    whitened coordinates, times the samples it carries. A cut along the longest axis keeps the component's mean and
    covariance. With ``greedy`` the worst go, otherwise a draw in proportion (for further starts).
    """
    while True:
        alive = np.flatnonzero(np.asarray(mixture.log_weight) > 0.5 * DEAD)
        count = min(order - len(alive), len(alive))
        if count <= 0:
            return pad(Mixture(*(np.asarray(a)[alive] for a in mixture)), max(order, len(alive)))
        w, mean, chol = (np.asarray(a, np.float64)[alive] for a in mixture)
        misfit = _misfit(w, mean, chol, z[:, rng.permutation(z.shape[1])[:2000]])
        if greedy:
            chosen = np.argsort(-misfit, kind="stable")[:count]
        else:
            share = misfit + 1e-3 * misfit.sum() + 1e-12
            chosen = rng.choice(len(alive), count, replace=False, p=share / share.sum())
        cov = chol @ np.swapaxes(chol, 1, 2)
        values, vectors = np.linalg.eigh(cov[chosen])
        longest = np.sqrt(values[:, -1:]) * vectors[:, :, -1]
        inner = cov[chosen] - 0.5 * longest[:, :, None] * longest[:, None, :]
        inner = np.linalg.cholesky(inner + 1e-12 * np.eye(len(z)))
        w[chosen] -= np.log(2.0)
        low, high = mean[chosen] - np.sqrt(0.5) * longest, mean[chosen] + np.sqrt(0.5) * longest
        mean[chosen], chol[chosen] = low, inner
        mixture = Mixture(np.concatenate([w, w[chosen]]), np.concatenate([mean, high]), np.concatenate([chol, inner]))


def _misfit(log_weight: np.ndarray, mean: np.ndarray, chol: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Samples carried times squared skewness and excess kurtosis, per component [K]."""
    inverse = np.linalg.inv(chol)
    u = np.einsum("kij,kjn->kin", inverse, z[None] - mean[:, :, None])
    log_joint = log_weight[:, None] + np.log(np.diagonal(inverse, axis1=1, axis2=2)).sum(1)[:, None]
    log_joint = log_joint - 0.5 * (u * u).sum(1)
    joint = np.exp(log_joint - log_joint.max(0))
    resp = joint / joint.sum(0)
    size = resp.sum(1)
    u2 = u * u
    skew = (resp[:, None] * u2 * u).sum(2) / np.maximum(size, 1e-9)[:, None]
    square = (u2).sum(1)
    d = len(z)
    excess = (resp * square * square).sum(1) / np.maximum(size, 1e-9) - d * (d + 2)
    return size * ((skew**2).sum(1) / 6.0 + excess**2 / (8.0 * d * (d + 2)))


def _kmeans(sample: np.ndarray, order: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """k-means++ seeds (Arthur & Vassilvitskii 2007) and ten Lloyd passes: centres [K, D] and labels."""
    centers = [sample[rng.integers(len(sample))]]
    nearest = np.full(len(sample), np.inf)
    for _ in range(order - 1):
        nearest = np.minimum(nearest, ((sample - centers[-1]) ** 2).sum(1))
        total = nearest.sum()
        pick = rng.choice(len(sample), p=nearest / total) if total > 0 else rng.integers(len(sample))
        centers.append(sample[pick])
    mean = np.array(centers)
    square = (sample**2).sum(1)[:, None]
    for _ in range(10):
        label = np.argmin(square - 2.0 * sample @ mean.T + (mean**2).sum(1), axis=1)
        counts = np.bincount(label, minlength=order)
        sums = np.stack([np.bincount(label, weights=column, minlength=order) for column in sample.T], 1)
        mean = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], mean)
    return mean, label
