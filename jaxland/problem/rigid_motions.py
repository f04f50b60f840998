"""How structures of particles come to lie on one another: turns, mirror images, exchange of like particles.

Two copies of one structure are matched exactly: a pair of particles of one is laid onto every equivalent pair of the
other, which fixes the rotation. Different structures are brought close by alternating assignment and rotation (Kabsch
1976) from several orientations, as every program of the field does it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_TOGETHER = 2**20  # numbers of a kind in one call


def in_parts(a: np.ndarray, each: int) -> list[np.ndarray]:
    """Rows in parts that are looked at in one call, when a row takes ``each`` numbers."""
    return np.array_split(a, max(1, -(-len(a) * each // _TOGETHER)))


def laid_onto(
    a: np.ndarray, b: np.ndarray, tol: float, kind: np.ndarray, *, reflection: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How structures a [P, n, d] come to lie on structures b [P, n, d], one by one, both centred, d = 2 or 3.

    Args:
        tol: of distances.
        kind: of each particle [n]; equal ones may be exchanged.
        reflection: whether mirror images count.

    Returns:
        For every way found: its row of a and b, ascending [k], the rotation R [k, d, d], and the permutation p [k, n]
        with |a[p] R - b| < 3 tol for each particle.
    """
    ra, rb = np.linalg.norm(a, axis=2), np.linalg.norm(b, axis=2)
    rows = np.flatnonzero(np.max(np.abs(np.sort(ra) - np.sort(rb)), axis=1, initial=0.0) <= 2 * tol)
    a, b, ra, rb = a[rows], b[rows], ra[rows], rb[rows]
    n, unlike = a.shape[1], kind[:, None] != kind
    near = (np.abs(rb[:, :, None] - ra[:, None]) < 2 * tol) & ~unlike  # [P, n of b, n of a]
    spread = np.max(rb, axis=1, initial=0.0) >= 10 * tol
    which, turns = (_in_plane if a.shape[2] == 2 else _in_space)(a[spread], b[spread], near[spread], tol, reflection)
    together = np.flatnonzero(~spread)  # all particles in one place
    which = np.concatenate([np.flatnonzero(spread)[which], together])
    turns = np.concatenate([turns, np.tile(np.eye(a.shape[2]), (len(together), 1, 1))])
    kept = np.argsort(which, kind="stable")
    which, turns = which[kept], turns[kept]
    fits, order = np.zeros(len(which), bool), np.zeros((len(which), n), int)
    for some in in_parts(np.arange(len(which)), n**2):
        w = which[some]
        squares = np.sum(((a[w] @ turns[some])[:, :, None] - b[w][:, None]) ** 2, axis=3)  # [k, n of a, n of b]
        squares[:, unlike] = np.inf
        order[some] = np.argmin(squares, axis=1)
        fits[some] = np.max(np.min(squares, axis=1), axis=1) < (3 * tol) ** 2
    fits &= np.all(np.sort(order, axis=1) == np.arange(n), axis=1)
    return rows[which[fits]], turns[fits], order[fits]


def _in_space(
    a: np.ndarray, b: np.ndarray, near: np.ndarray, tol: float, reflection: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Rows [k] and rotations [k, 3, 3] that lay a pair of particles of a onto the pair of b with fewest counterparts.

    The pair: one off the centre, and one off its axis.
    """
    rb, each = np.linalg.norm(b, axis=2), np.arange(len(b))
    n, largest = a.shape[1], np.max(rb, axis=1, initial=0.0)
    first = np.argmin(near.sum(2) + (rb < 0.3 * largest[:, None]) * n, axis=1)
    axis = b[each, first]
    off = np.linalg.norm(np.cross(axis[:, None], b), axis=2) / rb[each, first][:, None]
    straight = np.max(off, axis=1, initial=0.0) < tol
    wide = 4 * tol * np.maximum(1.0, largest)
    dots_a, dots_b = a @ np.swapaxes(a, 1, 2), np.sum(b * axis[:, None], axis=2)
    possible = np.abs(dots_a[:, :, :, None] - dots_b[:, None, None]) < wide[:, None, None, None]
    possible &= near[each, first][:, :, None, None] & np.swapaxes(near, 1, 2)[:, None]
    lost = off < 0.3 * np.max(off, axis=1, keepdims=True, initial=0.0)
    second = np.argmin(possible.sum((1, 2)) + lost * n**2, axis=1)
    chosen = possible[each, :, :, second]
    # On a straight line any second axis does.
    chosen[straight] = near[each, first][straight][:, :, None] & (np.arange(n) == 0)
    which, i, j = np.nonzero(chosen)
    target = _frames(axis, _other_axis(b[each, second], straight))
    source = _frames(a[which, i], _other_axis(a[which, j], straight[which]))
    if reflection:
        which = np.concatenate([which, which])
        source = np.concatenate([source, source * np.array([1.0, 1.0, -1.0])[:, None]])
    return which, np.swapaxes(source, 1, 2) @ target[which]


def _in_plane(
    a: np.ndarray, b: np.ndarray, near: np.ndarray, tol: float, reflection: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Rows [k] and rotations [k, 2, 2] that lay a particle of a onto the one of b with fewest counterparts."""
    rb, each = np.linalg.norm(b, axis=2), np.arange(len(b))
    first = np.argmin(near.sum(2) + (rb < 0.3 * np.max(rb, axis=1, keepdims=True, initial=0.0)) * a.shape[1], axis=1)
    which, i = np.nonzero(near[each, first])
    source, target = a[which, i] @ np.array([1, 1j]), b[which, first[which]] @ np.array([1, 1j])
    turns = _turn(target / source)
    if not reflection:
        return which, turns
    mirrored = np.diag([1.0, -1.0]) @ _turn(target / source.conj())
    return np.concatenate([which, which]), np.concatenate([turns, mirrored])


def _turn(z: np.ndarray) -> np.ndarray:
    """Rotations [k, 2, 2] of row vectors by the angles of complex numbers."""
    c, s = z.real / np.abs(z), z.imag / np.abs(z)
    return np.stack([np.stack([c, s], axis=-1), np.stack([-s, c], axis=-1)], axis=1)


def _other_axis(x: np.ndarray, straight: np.ndarray) -> np.ndarray:
    """Second axes [k, 3] of frames: x [k, 3]; any direction not along the first where all are on a line."""
    return np.where(straight[:, None], np.array([0.3, -0.5, 0.8124]), x)


def _frames(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Orthonormal frames [k, 3, 3], rows: along u, along the rest of v, and their cross product."""
    e1 = u / np.linalg.norm(u, axis=1, keepdims=True)
    rest = v - np.sum(v * e1, axis=1, keepdims=True) * e1
    e2 = rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-300)
    return np.stack([e1, e2, np.cross(e1, e2)], axis=1)


def nearest(
    a: np.ndarray,
    b: np.ndarray,
    turns: np.ndarray,
    assigned: Callable[[np.ndarray], np.ndarray],
    turned: Callable[[np.ndarray], np.ndarray],
    best: float,
    chosen: np.ndarray,
) -> np.ndarray:
    """The image of a [n, d] nearest to b: assignment and rotation in turn, from each of turns [k, d, d].

    ``assigned`` gives the permutation [n] that brings an image [n, d] nearest to b, ``turned`` rotates images
    [k, n, d] onto b. ``best`` is the distance of ``chosen``, which stays unless an image comes closer.
    """
    moved, p = a @ turns, np.tile(np.arange(len(a)), (len(turns), 1))
    known: set[bytes] = set()
    while len(p):
        step = np.stack([assigned(x) for x in moved])
        p, moved = np.take_along_axis(p, step, 1), np.take_along_axis(moved, step[:, :, None], 1)
        # A permutation met before leads where it led then.
        keys = [row.tobytes() for row in p]
        fresh = [k for k, key in enumerate(keys) if key not in known and key not in keys[:k]]
        known.update(keys)
        p, moved = p[fresh], turned(moved[fresh])
        for x, distance in zip(moved, np.sqrt(np.sum((moved - b) ** 2, axis=(1, 2)))):
            if distance < best - 1e-9:
                best, chosen = distance, x
    return chosen


def refit(a: np.ndarray, b: np.ndarray, proper: bool = False) -> np.ndarray:
    """a [..., n, d] turned (improper rotations included, unless ``proper``) to lie nearest to b (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    if proper:
        u[..., -1] *= np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)[..., None]
    return a @ (u @ vt)
