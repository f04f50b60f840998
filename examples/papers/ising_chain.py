"""The transverse-field Ising chain, whose transition is known exactly (Pfeuty 1970): g = 1.

    H = -sum_i s^z_i s^z_i+1 - g sum_i s^x_i,   10 sites, periodic

Ferromagnet for g < 1, paramagnet above. Energies are known for any length, from free fermions.
"""

from __future__ import annotations

import numpy as np

from examples.papers.phases import Diagram, lowest_states, scaled

SITES = 10
G_TRAIN = np.concatenate([np.linspace(0, 1, 500, endpoint=False), np.linspace(1, 6, 501)[1:]])
G_TEST = np.concatenate([np.linspace(0.01, 0.999, 20, endpoint=False), np.geomspace(1.02, 5.9, 30)])


def ground_states(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies [k] and ground states [k, 1024] over the basis states (s^z) as descending integers."""
    states = np.arange(2**SITES - 1, -1, -1)
    bits = (states[:, None] >> np.arange(SITES)) & 1
    flips = np.zeros((len(states), len(states)))
    for a in range(SITES):
        flips[np.arange(len(states)), 2**SITES - 1 - (states ^ (1 << a))] = -1.0
    bonds = -np.sum((2 * bits - 1) * (2 * np.roll(bits, -1, axis=1) - 1), axis=1)
    powers = 1 << np.arange(SITES)
    turned = [np.roll(b, shift, axis=1) @ powers for b in (bits, bits[:, ::-1]) for shift in range(SITES)]
    images = np.array([image for one in turned for image in (one, 2**SITES - 1 - one)])
    # H / g = flips + bonds / g, so that the coupled part is diagonal; g = 0 is taken as its limit.
    energies, vectors = lowest_states(flips, bonds, 1 / np.maximum(g, 1e-6), images)
    return energies * np.maximum(g, 1e-6), vectors


def exact_energies(g: np.ndarray) -> np.ndarray:
    """-sum_k sqrt(1 + g^2 - 2 g cos k), k = (2 m + 1) pi / N: the even sector's ground energy [k]."""
    k = (2 * np.arange(SITES) + 1) * np.pi / SITES
    return -np.sqrt(1 + g[:, None] ** 2 - 2 * g[:, None] * np.cos(k)).sum(axis=1)


def diagram() -> Diagram:
    """500 training states on each side, labelled by the exact transition."""
    x, test = scaled(ground_states(np.concatenate([G_TRAIN, G_TEST]))[1], len(G_TRAIN))
    return Diagram(
        name="Ising chain",
        symbol="$g$",
        upper="paramagnet",
        transition=1.0,
        v_train=G_TRAIN,
        v_test=G_TEST,
        x=x,
        test=test,
        labels=(G_TRAIN > 1).astype(int),
        test_labels=(G_TEST > 1).astype(int),
    )
