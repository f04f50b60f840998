"""How fast a noisy walker goes from minimum to minimum: rates, first-passage times, committors, fastest paths.

Harmonic transition state theory gives for the way from minimum a over transition state t (unit masses, Boltzmann's
constant 1)

    k_ab = o_a / (2 pi o_t) exp[(f_a - f_t) / 2 - (E_t - E_a) / T],

with f the log product of the kappa (at a transition state kappa - 1) positive Hessian eigenvalues, summed over the
transition states between a and b; degenerate rearrangements lead nowhere and are left out. Z_a k_ab = Z_b k_ba holds
by construction. All numbers are logarithms: rates may lie further apart than float64 reaches.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError
from jaxland.landscape import network
from jaxland.landscape.physics.graph_transformation import absorb, merged
from jaxland.landscape.physics.thermodynamics import (
    checked,
    checked_temperatures,
    log_orders,
    log_products,
    log_weights,
)
from jaxland.landscape.result import Landscape
from jaxland.showing import brief

if TYPE_CHECKING:
    import networkx
    import pandas
    import scipy.sparse


@dataclass(frozen=True, eq=False)
class FirstPassage:
    """Mean first-passage times to a set of minima.

    Attributes:
        targets: indices.
        log_times: [M] ln of the mean time from each minimum; -inf at the targets, +inf where there is no path.
    """

    targets: np.ndarray
    log_times: np.ndarray

    @property
    def times(self) -> np.ndarray:
        """[M]; infinite also where the time does not fit a float."""
        with np.errstate(over="ignore"):
            return np.exp(self.log_times)


@dataclass(frozen=True, eq=False)
class Committor:
    """Which of two sets of minima is reached first.

    Attributes:
        a, b: the sets.
        log_to_a, log_to_b: [M] ln of the probability that a walk from each minimum reaches the set before the other;
            at the sets themselves 0 and -inf; both -inf where neither can be reached.
    """

    a: np.ndarray
    b: np.ndarray
    log_to_a: np.ndarray
    log_to_b: np.ndarray

    @property
    def to_a(self) -> np.ndarray:
        """[M] probabilities."""
        return np.exp(self.log_to_a)

    @property
    def to_b(self) -> np.ndarray:
        """[M] probabilities."""
        return np.exp(self.log_to_b)


@dataclass(frozen=True, eq=False)
class RateConstants:
    """Between two sets of minima, each in local equilibrium, as logarithms.

    Attributes:
        a, b: int, the sets; temperature: of the rates.
        log_ab, log_ba: steady-state rate constants A <- B and B <- A (Wales 2009): the flux from committors, time
            spent between the sets neglected. Z_B k_AB = Z_A k_BA.
        log_ab_waiting, log_ba_waiting: the same with the time spent between the sets (not in a steady state).
        log_time_ab, log_time_ba: mean first-passage times from B to A, from A to B. Their inverses are the rate
            constants without approximation.
        log_equilibrium: ln Z_A / Z_B.
    """

    a: np.ndarray
    b: np.ndarray
    temperature: float
    log_ab: float
    log_ba: float
    log_ab_waiting: float
    log_ba_waiting: float
    log_time_ab: float
    log_time_ba: float
    log_equilibrium: float

    __repr__ = brief

    def to_pandas(self) -> pandas.DataFrame:
        """One row per direction, base-10 logarithms."""
        import pandas as pd

        rows = {
            "A <- B": (self.log_ab, self.log_ab_waiting, -self.log_time_ab),
            "B <- A": (self.log_ba, self.log_ba_waiting, -self.log_time_ba),
        }
        columns = ["log10 k, steady state", "log10 k, with waiting", "log10 1/mean first passage"]
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns) / math.log(10)
        return frame.rename_axis("direction")

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(border=0, float_format=lambda v: f"{v:.6g}")


@dataclass(frozen=True, eq=False)
class RatePath:
    """A way from one minimum to another.

    Attributes:
        minima: [k] along it; states: [k - 1] the transition state of each step (the fastest of parallel ones).
        log_probability: ln of the product of the branching probabilities.
        highest: energy of the highest transition state; barrier: its height above the first minimum.
    """

    minima: tuple[int, ...]
    states: tuple[int, ...]
    log_probability: float
    highest: float
    barrier: float


@dataclass(frozen=True, eq=False)
class RateNetwork:
    """Minima joined by rates at one temperature. Build one with ``RateNetwork.of``.

    Two wells of equal width and a pass 1 above the lower one, at T = 0.5: k from the lower is exp(-1 / T) / (2 pi).

    >>> wells = Landscape.from_points([0.0, 0.2], np.zeros((2, 1)), [1.0], [[0, 1]])
    >>> (RateNetwork.of(wells, 0.5, vibrations=False).log_rates + np.log(2 * np.pi)).round(6).tolist()
    [[-2.0, -1.6]]

    Attributes:
        temperature: T.
        ends: int [P, 2] pairs of minima that are joined, first below second.
        log_conductances: [P] ln(Z_a k_ab) of each pair.
        log_weights: [M] ln Z_a, up to a constant shared with the conductances.
        states: int [P] the fastest transition state of each pair; state_energies: [P] its energy.
        energies: [M] of the minima.
    """

    temperature: float
    ends: np.ndarray
    log_conductances: np.ndarray
    log_weights: np.ndarray
    states: np.ndarray
    state_energies: np.ndarray
    energies: np.ndarray

    @classmethod
    def of(cls, landscape: Landscape, temperature: ArrayLike, *, vibrations: bool = True) -> RateNetwork:
        """Rates of a landscape.

        Args:
            landscape: with log products of minima and transition states, unless ``vibrations`` is False.
            temperature: one positive number, in units of the energy.
            vibrations: False takes f = 0 for all points: rates from barriers alone.

        Raises:
            ArgumentError: no minima, or a temperature that is not one positive number.
            DataError: log products are missing.
        """
        t = checked_temperatures(temperature)
        if len(t) != 1:
            raise ArgumentError(f"rates need one temperature, got {len(t)}")
        if not landscape.n_minima:
            raise ArgumentError("the landscape has no minima: there are no rates")
        real = np.flatnonzero(~landscape.degenerate)
        f = log_products(landscape, transition_states=True) if vibrations else np.zeros(landscape.n_ts)
        orders = log_orders(landscape, transition_states=True)
        above = landscape.ts_energies - landscape.energies[0]
        logs = (-above / t[0] - 0.5 * f - orders - math.log(2 * math.pi))[real]
        ends, sums, first = merged(landscape.ts_ends[real], logs)
        states = real[first]
        weights = log_weights(landscape, t, vibrations=vibrations)[0]
        return cls(
            temperature=float(t[0]),
            ends=ends,
            log_conductances=sums,
            log_weights=weights,
            states=states,
            state_energies=landscape.ts_energies[states],
            energies=landscape.energies,
        )

    @property
    def n(self) -> int:
        """Number of minima M."""
        return len(self.log_weights)

    @cached_property
    def log_rates(self) -> np.ndarray:
        """[P, 2] ln k from the first minimum of each pair to the second, and back."""
        return self.log_conductances[:, None] - self.log_weights[self.ends]

    @cached_property
    def log_escapes(self) -> np.ndarray:
        """[M] ln of the sum of the rates out of each minimum; -inf where there is none."""
        out = np.full(self.n, -np.inf)
        np.logaddexp.at(out, self.ends[:, 0], self.log_rates[:, 0])
        np.logaddexp.at(out, self.ends[:, 1], self.log_rates[:, 1])
        return out

    @property
    def waiting_times(self) -> np.ndarray:
        """[M] mean time spent in each minimum before it is left."""
        with np.errstate(over="ignore"):
            return np.exp(-self.log_escapes)

    @property
    def occupations(self) -> np.ndarray:
        """[M] equilibrium probabilities."""
        return np.exp(self.log_weights - np.logaddexp.reduce(self.log_weights))

    def generator(self) -> scipy.sparse.csr_array:
        """scipy.sparse matrix [M, M]: rate from a to b at [a, b], minus the sum of each row on the diagonal."""
        from scipy.sparse import csr_array

        (i, j), rates = self.ends.T, np.exp(self.log_rates)
        k = csr_array((np.r_[rates[:, 0], rates[:, 1]], (np.r_[i, j], np.r_[j, i])), shape=(self.n, self.n))
        diagonal = np.arange(self.n)
        return (k - csr_array((np.exp(self.log_escapes), (diagonal, diagonal)), shape=k.shape)).tocsr()

    def first_passage(self, targets: ArrayLike) -> FirstPassage:
        """Mean first-passage times from every minimum to a set.

        Raises:
            ArgumentError: the set is empty or holds what is no minimum.
        """
        chosen = checked(targets, self.n, "targets")
        terminals = np.full(self.n, -1)
        terminals[chosen] = 0
        found = absorb(self.ends, self.log_conductances, self.log_weights, terminals)
        return FirstPassage(chosen, found.log_times)

    def committor(self, a: ArrayLike, b: ArrayLike) -> Committor:
        """Which of two sets is reached first from every minimum.

        Raises:
            ArgumentError: a set is empty, holds what is no minimum, or overlaps with the other.
        """
        a, b, terminals = self._terminals(a, b)
        found = absorb(self.ends, self.log_conductances, self.log_weights, terminals)
        return Committor(a=a, b=b, log_to_a=found.log_hits[0], log_to_b=found.log_hits[1])

    def rate_constants(self, a: ArrayLike, b: ArrayLike) -> RateConstants:
        """Rate constants between two sets of minima.

        Raises:
            ArgumentError: as ``committor``, or a minimum of one set has no path to the other set.
        """
        a, b, terminals = self._terminals(a, b)
        self._require_paths(a, b)
        found = absorb(self.ends, self.log_conductances, self.log_weights, terminals)
        # Conductance from each minimum of the sets to the other set, and the weight it passes through on the way:
        # c_xA + sum_i c_xi q_i and Z_x + sum_i c_xi t_i over the minima i between the sets.
        across, weights = np.full(self.n, -np.inf), self.log_weights.copy()
        for here, there in ((0, 1), (1, 0)):
            x, i = self.ends[:, here], self.ends[:, there]
            leaving = terminals[x] >= 0
            x, i, c = x[leaving], i[leaving], self.log_conductances[leaving]
            np.logaddexp.at(across, x, c + found.log_hits[1 - terminals[x], i])
            between = terminals[i] < 0
            np.logaddexp.at(weights, x[between], c[between] + found.log_times[i[between]])
        log_z = {name: np.logaddexp.reduce(self.log_weights[s]) for name, s in (("a", a), ("b", b))}
        flux = float(np.logaddexp.reduce(across[b]))
        # The flux is the same from either side; taking it once makes detailed balance exact.
        waiting = {
            name: float(np.logaddexp.reduce(self.log_weights[s] + across[s] - weights[s]) - log_z[name])
            for name, s in (("a", a), ("b", b))
        }
        times = {}
        for name, start, end in (("ab", b, a), ("ba", a, b)):
            logs = self.log_weights[start] + self.first_passage(end).log_times[start]
            times[name] = float(np.logaddexp.reduce(logs) - np.logaddexp.reduce(self.log_weights[start]))
        return RateConstants(
            a=a,
            b=b,
            temperature=self.temperature,
            log_ab=flux - float(log_z["b"]),
            log_ba=flux - float(log_z["a"]),
            log_ab_waiting=waiting["b"],
            log_ba_waiting=waiting["a"],
            log_time_ab=times["ab"],
            log_time_ba=times["ba"],
            log_equilibrium=float(log_z["a"] - log_z["b"]),
        )

    def fastest_paths(self, start: int, end: int, count: int = 1) -> list[RatePath]:
        """The paths with the largest products of branching probabilities, best first; none visits a minimum twice.

        Fewer than ``count`` (none at all) where there are no more.

        Raises:
            ArgumentError: start or end is no minimum, or they are the same; count below 1.
        """
        import networkx as nx

        start, end = (int(checked(k, self.n, name)[0]) for k, name in ((start, "start"), (end, "end")))
        if start == end:
            raise ArgumentError(f"start and end are both minimum {start}: there is no path to find")
        if count < 1:
            raise ArgumentError(f"count must be at least 1, got {count}")
        graph = nx.DiGraph()
        graph.add_nodes_from((start, end))
        for k, (i, j) in enumerate(self.ends.tolist()):
            forth, back = self.log_escapes[[i, j]] - self.log_rates[k]
            graph.add_edge(i, j, cost=max(float(forth), 0.0), pair=k)
            graph.add_edge(j, i, cost=max(float(back), 0.0), pair=k)
        if not nx.has_path(graph, start, end):
            return []
        if count == 1:
            found = [nx.dijkstra_path(graph, start, end, weight="cost")]
        else:
            found = list(itertools.islice(nx.shortest_simple_paths(graph, start, end, weight="cost"), count))
        return [self._path(graph, minima) for minima in found]

    def _path(self, graph: networkx.DiGraph, minima: list[int]) -> RatePath:
        steps = [graph[i][j] for i, j in itertools.pairwise(minima)]
        pairs = [step["pair"] for step in steps]
        highest = float(self.state_energies[pairs].max())
        return RatePath(
            minima=tuple(minima),
            states=tuple(int(s) for s in self.states[pairs]),
            log_probability=-math.fsum(step["cost"] for step in steps),
            highest=highest,
            barrier=highest - float(self.energies[minima[0]]),
        )

    def _terminals(self, a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        a, b = checked(a, self.n, "A"), checked(b, self.n, "B")
        both = np.intersect1d(a, b)
        if len(both):
            raise ArgumentError(f"A and B must not overlap; minimum {both[0]} is in both")
        terminals = np.full(self.n, -1)
        terminals[a], terminals[b] = 0, 1
        return a, b, terminals

    def _require_paths(self, a: np.ndarray, b: np.ndarray) -> None:
        labels = network.components(self.n, self.ends)
        for name, own, other in (("A", a, b), ("B", b, a)):
            lost = own[~np.isin(labels[own], labels[other])]
            if len(lost):
                raise ArgumentError(
                    f"minimum {lost[0]} of {name} has no path to the other set: the network has "
                    f"{labels.max() + 1} components. Search on until they are joined, or choose sets within "
                    "landscape.connected()"
                )
