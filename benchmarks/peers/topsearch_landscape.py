"""topsearch on the problems of bench_clusters.py; prints one JSON line. Needs topsearch and NumPy, not jaxland.

    python benchmarks/peers/topsearch_landscape.py xor|lj7|lj8 CPU_SECONDS

Energies and gradients are vectorised NumPy (topsearch's own Lennard-Jones loops over pairs in Python, about 20 times
slower). Its settings are those of its examples; pairs by ClosestEnumeration until the CPU seconds are spent.
"""

import json
import os
import random
import sys
import tempfile
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
from topsearch.data.coordinates import AtomicCoordinates, StandardCoordinates
from topsearch.data.kinetic_transition_network import KineticTransitionNetwork
from topsearch.global_optimisation.basin_hopping import BasinHopping
from topsearch.global_optimisation.perturbations import AtomicPerturbation, StandardPerturbation
from topsearch.minimisation import lbfgs
from topsearch.potentials.potential import Potential
from topsearch.sampling.exploration import NetworkSampling
from topsearch.similarity.molecular_similarity import MolecularSimilarity
from topsearch.similarity.similarity import StandardSimilarity
from topsearch.transition_states.hybrid_eigenvector_following import HybridEigenvectorFollowing
from topsearch.transition_states.nudged_elastic_band import NudgedElasticBand

X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
Y = np.array([0, 1, 1, 0])


class Xor(Potential):
    """Mean cross-entropy + lam sum(w^2) of a 2-2-2 tanh network."""

    def __init__(self, lam=1e-2):
        super().__init__()
        self.atomistic, self.lam, self.calls = False, lam, 0

    def function_gradient(self, w):
        self.calls += 1
        b1, w1, b2, w2 = w[:2], w[2:6].reshape(2, 2), w[6:8], w[8:].reshape(2, 2)
        t = np.tanh(X @ w1 + b1)
        z = t @ w2 + b2
        e = np.exp(z - z.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
        value = -np.mean(np.log(p[np.arange(4), Y])) + self.lam * w @ w
        r = (p - np.eye(2)[Y]) / 4
        back = (r @ w2.T) * (1 - t * t)
        g = np.concatenate([back.sum(0), (X.T @ back).ravel(), r.sum(0), (t.T @ r).ravel()])
        return value, g + 2 * self.lam * w

    def function(self, w):
        return self.function_gradient(w)[0]

    def gradient(self, w, displacement=0.0):
        return self.function_gradient(w)[1]


class LennardJones(Xor):
    """4 (r^-12 - r^-6) over pairs."""

    def __init__(self):
        Potential.__init__(self)
        self.atomistic, self.calls = True, 0

    def function_gradient(self, w):
        self.calls += 1
        x = w.reshape(-1, 3)
        d = x[:, None] - x[None]
        square = np.sum(d * d, axis=2) + np.eye(len(x))
        inverse = 1.0 / square**3
        off = 1.0 - np.eye(len(x))
        slope = 4.0 * (-6.0 * inverse * inverse + 3.0 * inverse) / square * off
        return 2.0 * np.sum(off * (inverse * inverse - inverse)), 2.0 * np.sum(slope[:, :, None] * d, axis=1).ravel()


def index(potential, x, zero):
    n, h = x.size, 1e-5
    hessian = np.array([(potential.gradient(x + h * e) - potential.gradient(x - h * e)) / (2 * h) for e in np.eye(n)])
    return int(np.sum(np.linalg.eigvalsh((hessian + hessian.T) / 2) < -zero))


def distinct(energies, tol=1e-5):
    kept = []
    for e in sorted(energies):
        if not kept or e - kept[-1] > tol:
            kept.append(e)
    return kept


def main(name, budget):
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - topsearch draws from it
    rng = np.random.default_rng(0)
    os.chdir(tempfile.mkdtemp())  # topsearch writes a log where it stands
    atoms = int(name[2:]) if name.startswith("lj") else 0
    if atoms:
        potential, half = LennardJones(), 0.8 * atoms ** (1 / 3)
        while True:  # its basin hopping must begin in a whole cluster
            start = rng.uniform(-half, half, 3 * atoms)
            start, _, facts = lbfgs.minimise(potential.function_gradient, start, [(-100, 100)] * start.size)
            coordinates = AtomicCoordinates(["C"] * atoms, start)
            if facts["warnflag"] == 0 and coordinates.same_bonds():
                break
        similarity = MolecularSimilarity(distance_criterion=0.5, energy_criterion=5e-4, allow_inversion=True)
        moves = AtomicPerturbation(max_displacement=1.6, max_atoms=atoms - 1)
        starts = rng.uniform(-half, half, (50, 3 * atoms))
    else:
        potential = Xor()
        coordinates = StandardCoordinates(ndim=12, bounds=[(-10.0, 10.0)] * 12)
        coordinates.position = 1.5 * rng.normal(size=12)
        similarity = StandardSimilarity(0.1, 1e-5, proportional_distance=False)
        moves = StandardPerturbation(max_displacement=4.0)
        starts = 1.5 * rng.normal(size=(50, 12))
    began = time.process_time()
    converged = 0
    for x in starts:
        found, _, _ = lbfgs.minimise(potential.function_gradient, x, coordinates.bounds, conv_crit=1e-6)
        converged += np.sqrt(np.mean(potential.gradient(found) ** 2)) <= 1e-6
    quenches = converged / (time.process_time() - began)

    began = time.process_time()
    network = KineticTransitionNetwork()
    hopping = BasinHopping(ktn=network, potential=potential, similarity=similarity, step_taking=moves)
    following = HybridEigenvectorFollowing(
        potential=potential,
        ts_conv_crit=1e-5,
        ts_steps=100,
        pushoff=0.1 if not atoms else 0.3,
        max_uphill_step_size=0.3,
        positive_eigenvalue_step=0.1,
        eigenvalue_conv_crit=1e-5,
        steepest_descent_conv_crit=1e-6,
    )
    band = NudgedElasticBand(
        potential=potential, force_constant=50.0, image_density=10.0, max_images=20, neb_conv_crit=1e-2
    )
    explorer = NetworkSampling(network, coordinates, hopping, following, band, similarity)
    attempts, connect = [], explorer.connection_attempt
    explorer.connection_attempt = lambda pair: attempts.append(connect(pair)) or attempts[-1]
    explorer.get_minima(coordinates, 100, 1e-6, 100.0, test_valid=False)
    searching = time.process_time()
    cycles = 1
    while time.process_time() - began < budget and cycles < 30:
        before = network.n_ts, len(network.pairlist)
        explorer.get_transition_states("ClosestEnumeration", cycles)
        cycles += 1
        if (network.n_ts, len(network.pairlist)) == before and cycles > network.n_minima:
            break
    now = time.process_time()
    minima = [network.get_minimum_coords(i) for i in range(network.n_minima)]
    saddles = [(a, b) for a, b in network.G.edges()]
    zero = 1e-4
    wrong = sum(index(potential, x, zero) != 0 for x in minima)
    wrong += sum(index(potential, network.get_ts_coords(a, b), zero) != 1 for a, b in saddles)
    energies = [network.get_ts_energy(a, b) for a, b in saddles]
    result = {
        "problem": name,
        "quenches per CPU s": quenches,
        "transition states per CPU s": sum(len(a) for a in attempts) / max(now - searching, 1e-9),
        "minima": len(distinct([network.get_minimum_energy(i) for i in range(network.n_minima)])),
        "transition states": len(distinct(energies)),
        "wrong index": int(wrong),
        "CPU s": now - began,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
