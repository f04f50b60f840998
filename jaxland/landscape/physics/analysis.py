"""Thermodynamics, funnels and kinetics of a landscape together: what ``jaxland thermo`` and the reports show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError
from jaxland.landscape import network
from jaxland.landscape.physics.funnels import Funnels, frustration, funnels
from jaxland.landscape.physics.kinetics import RateConstants, RateNetwork, RatePath
from jaxland.landscape.physics.thermodynamics import Thermodynamics, checked, log_products, thermodynamics
from jaxland.landscape.result import Landscape

if TYPE_CHECKING:
    import pandas

PATHS = 3
# Beyond so many minima rates are found at one temperature only, and one fastest path.
SCANNED = 3000
SEVERAL_PATHS = 1000


@dataclass(frozen=True, eq=False)
class Kinetics:
    """Between two sets of minima, at several temperatures.

    Attributes:
        a, b: int, the sets in the numbering of the connected part; names: what to call them.
        temperature: of ``rates``, ``fastest`` and ``network``.
        scan: [K] rate constants at other temperatures, ascending.
        minima, states: the lowest path from the lowest minimum of b to that of a, and its transition states.
        fastest: the fastest paths between the two.
    """

    a: np.ndarray
    b: np.ndarray
    names: tuple[str, str]
    temperature: float
    network: RateNetwork
    rates: RateConstants
    scan: tuple[RateConstants, ...]
    minima: tuple[int, ...]
    states: tuple[int, ...]
    fastest: tuple[RatePath, ...]

    def to_pandas(self) -> pandas.DataFrame:
        """Rate constants over temperatures, base-10 logarithms."""
        import pandas as pd

        rows = []
        for r in self.scan:
            numbers = (r.log_ab, -r.log_time_ab, r.log_ba, -r.log_time_ba, r.log_equilibrium)
            rows.append((r.temperature, *(v / math.log(10) for v in numbers)))
        columns = ["temperature", "k A<-B", "1/time B to A", "k B<-A", "1/time A to B", "Z_A/Z_B"]
        return pd.DataFrame(rows, columns=columns)


@dataclass(frozen=True, eq=False)
class Analysis:
    """Thermodynamics, funnels and kinetics of one landscape.

    Attributes:
        landscape: all minima; connected: indices of those joined to the lowest, or to A and B where these lie in
            another piece.
        thermodynamics: of all minima over a grid; at: of all minima at ``temperature``.
        temperature: the one of interest; rows: number of training rows it comes from (0: given or chosen).
        funnels: of the connected part, in its numbering.
        frustration: of the connected part at ``temperature``.
        kinetics: between the two lowest funnels; None where there is one only.
        vibrations: whether widths of basins are known.
        notes: what could not be told, and why; a sentence each.
    """

    landscape: Landscape
    connected: np.ndarray
    thermodynamics: Thermodynamics
    at: Thermodynamics
    temperature: float
    rows: int
    funnels: Funnels
    frustration: float
    kinetics: Kinetics | None
    vibrations: bool
    notes: tuple[str, ...] = ()

    def pieces(self) -> pandas.DataFrame:
        """One row per connected component: minima, transition states, lowest energy, occupation."""
        import pandas as pd

        land, label = self.landscape, self.landscape.components()
        count = int(label.max()) + 1
        first = np.array([int(np.argmax(label == k)) for k in range(count)])
        return pd.DataFrame(
            {
                "lowest minimum": first,
                "energy": land.energies[first],
                "minima": np.bincount(label),
                "transition states": np.bincount(label[land.ts_ends[:, 0]], minlength=count),
                "occupation": np.bincount(label, self.at.occupations[0]),
            }
        ).rename_axis("piece")

    def minima(self) -> pandas.DataFrame:
        """One row per minimum: energy, width, images, free energy and occupation at the temperature, funnel."""
        import pandas as pd

        land = self.landscape
        frame = pd.DataFrame(
            {
                "energy": land.energies,
                "log_product": land.log_products,
                "orbit_size": land.orbit_sizes,
                "free_energy": self.at.minima[0],
                "occupation": self.at.occupations[0],
            }
        )
        funnel = np.full(land.n_minima, -1)
        funnel[self.connected] = self.connected[self.funnels.bottoms[self.funnels.of]]
        frame["funnel_bottom"] = funnel
        if self.kinetics is not None:
            frame["log_waiting_time"] = np.nan
            frame.loc[self.connected, "log_waiting_time"] = -self.kinetics.network.log_escapes
        return frame.rename_axis("minimum")

    def funnel_table(self) -> pandas.DataFrame:
        """``Funnels.to_pandas`` with minima numbered as in the whole landscape."""
        frame = self.funnels.to_pandas()
        frame["bottom"] = self.connected[frame["bottom"]]
        return frame

    def summary(self) -> dict[str, Any]:
        """The numbers one would print, JSON-able."""
        at, land = self.at, self.landscape
        lowest = int(at.lowest[0])
        out: dict[str, Any] = {
            "minima": land.n_minima,
            "connected": len(self.connected),
            "temperature": self.temperature,
            "free_energy": float(at.free_energies[0]),
            "energy": float(at.energies[0]),
            "entropy": float(at.entropies[0]),
            "heat_capacity": float(at.heat_capacities[0]),
            "modes": at.modes,
            "vibrations": self.vibrations,
            "lowest_free_energy_minimum": lowest,
            "its_occupation": float(at.occupations[0, lowest]),
            "effective_minima": float(at.effective[0]),
            "funnels": self.funnels.n,
            "funnel_depth": self.funnels.depth,
            "frustration": self.frustration if math.isfinite(self.frustration) else None,
        }
        k = self.kinetics
        if k is not None:
            r = k.rates
            out["kinetics"] = {
                "A": self.connected[k.a].tolist(),
                "B": self.connected[k.b].tolist(),
                "ln_k_A_from_B": r.log_ab,
                "ln_k_B_from_A": r.log_ba,
                "ln_mean_time_B_to_A": r.log_time_ab,
                "ln_mean_time_A_to_B": r.log_time_ba,
                "lowest_path": self.connected[list(k.minima)].tolist(),
                "barrier": float(self._states()[list(k.states)].max() - land.energies[self.connected[k.minima[0]]]),
                "fastest_paths": [self.connected[list(p.minima)].tolist() for p in k.fastest],
            }
        return out

    def _states(self) -> np.ndarray:
        return self.landscape.restricted(self.connected).ts_energies


def analyse(
    landscape: Landscape,
    temperature: float | None = None,
    *,
    temperatures: ArrayLike | None = None,
    depth: float | None = None,
    sets: tuple[ArrayLike, ArrayLike] | None = None,
    modes: int | None = None,
    rows: int | None = None,
    vibrations: bool | None = None,
) -> Analysis:
    """Thermodynamics, funnels and kinetics of a landscape at one temperature, and curves over many.

    Args:
        landscape: at least one minimum; log products of all points, unless ``vibrations`` is False.
        temperature: of occupations and rates; default 1 / (number of training rows), or, where there are none, a
            tenth of the barrier between the two lowest funnels.
        temperatures: [K] grid of the curves; default ``default_temperatures``.
        depth: of a funnel.
        sets: A and B, indices of minima joined to one another; default the two lowest funnels of the lowest piece.
        modes, vibrations: see ``thermodynamics``; vibrations None takes widths where all are known.
        rows: number of training rows, where the landscape has no problem to ask.
    """
    if vibrations is None:
        vibrations = widths_known(landscape)
    joined = _piece(landscape, sets)
    part = landscape.restricted(joined)
    n = int(getattr(landscape.problem, "n", 0) or 0) if rows is None else int(rows)
    found = funnels(part, depth)
    given = temperature
    if temperature is None and n:
        temperature = 1.0 / n
    between = _sets(landscape.n_minima, joined, found, sets)
    if temperature is None:
        temperature = _middle(part, between)
    found = funnels(part, depth, temperature=temperature, vibrations=vibrations)
    curves = thermodynamics(landscape, temperatures, modes=modes, vibrations=vibrations)
    at = thermodynamics(landscape, temperature, modes=modes, vibrations=vibrations)
    kinetics = None if between is None else _kinetics(part, joined, between, temperature, vibrations, sets is None)
    frustrated = frustration(part, temperature, vibrations=vibrations)
    used = 0 if given is not None else n
    return Analysis(
        landscape=landscape,
        connected=joined,
        thermodynamics=curves,
        at=at,
        temperature=float(temperature),
        rows=used,
        funnels=found,
        frustration=frustrated,
        kinetics=kinetics,
        vibrations=vibrations,
        notes=_notes(landscape, at.modes),
    )


def _piece(landscape: Landscape, sets: tuple[ArrayLike, ArrayLike] | None) -> np.ndarray:
    """Minima of the component that holds A and B; of the lowest one where they are not given or not joined."""
    label = landscape.components()
    pieces = np.zeros(0, int) if sets is None else np.unique(label[together(landscape, sets)])
    return np.flatnonzero(label == (pieces[0] if len(pieces) == 1 else 0))


def together(landscape: Landscape, sets: tuple[ArrayLike, ArrayLike]) -> np.ndarray:
    """All minima of A and B.

    Raises:
        ArgumentError: a set is empty or holds no number of a minimum.
    """
    return np.concatenate([checked(members, landscape.n_minima, name) for name, members in zip("AB", sets)])


def _notes(landscape: Landscape, modes: int) -> tuple[str, ...]:
    said = []
    pieces = int(landscape.components().max()) + 1
    if pieces > 1:
        said.append(
            f"The landscape is in {pieces} pieces that no transition state joins: occupations are of all minima, "
            "funnels and rates of one piece"
        )
    if not modes:
        said.append(
            "The number of vibrational modes is not known (no coordinates; give --modes or modes=): free energies, "
            "entropies and heat capacities leave out what they share, kappa T / 2 and the like"
        )
    return tuple(said)


def widths_known(landscape: Landscape) -> bool:
    """Whether the log products of all minima and transition states are known."""
    try:
        log_products(landscape)
        log_products(landscape, transition_states=True)
    except DataError:
        return False
    return True


def _sets(
    count: int, joined: np.ndarray, found: Funnels, sets: tuple[ArrayLike, ArrayLike] | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """A and B in the numbering of the connected part; None where there is one funnel only."""
    if sets is None:
        return (found.members(0), found.members(1)) if found.n > 1 else None
    place = {int(i): k for k, i in enumerate(joined)}
    chosen = []
    for name, members in zip("AB", sets):
        indices = checked(members, count, name)
        lost = [int(i) for i in indices if int(i) not in place]
        if lost:
            raise DataError(
                f"minimum {lost[0]} of {name} is not joined to the lowest minimum, nor A to B: no rates lead there"
            )
        chosen.append(np.array([place[int(i)] for i in indices]))
    both = joined[np.intersect1d(chosen[0], chosen[1])]
    if len(both):
        raise ArgumentError(f"A and B must not overlap; minimum {both[0]} is in both")
    return chosen[0], chosen[1]


def _climb(part: Landscape, between: tuple[np.ndarray, np.ndarray]) -> float:
    """Height of the lowest path from the lowest minimum of B to the lowest of A."""
    a, b = (int(s[0]) for s in between)
    return float(network.barriers(part, a)[b] - part.energies[b])


def _middle(part: Landscape, between: tuple[np.ndarray, np.ndarray] | None) -> float:
    if between is not None:
        return 0.1 * _climb(part, between)
    span = float(np.ptp(part.energies))
    return 0.1 * span if span > 0 else part.scale.energy


def _kinetics(
    part: Landscape,
    joined: np.ndarray,
    between: tuple[np.ndarray, np.ndarray],
    temperature: float,
    vibrations: bool,
    funnelled: bool,
) -> Kinetics:
    a, b = between
    climb = max(_climb(part, between), 1e-9 * float(np.ptp(part.energies)))
    grid = np.unique(np.append(np.geomspace(climb / 60, climb / 2, 8), temperature))
    if part.n_minima > SCANNED:
        grid = np.array([temperature])
    scan, rates, net = [], None, None
    for t in grid:
        at = RateNetwork.of(part, float(t), vibrations=vibrations)
        found = at.rate_constants(a, b)
        scan.append(found)
        if t == temperature:
            net, rates = at, found
    assert net is not None and rates is not None
    start, end = int(b[0]), int(a[0])
    minima, states = network.lowest_path(part, start, end)
    names = (f"the funnel of minimum {joined[a[0]]}", f"the funnel of minimum {joined[b[0]]}")
    fastest = net.fastest_paths(start, end, PATHS if part.n_minima <= SEVERAL_PATHS else 1)
    return Kinetics(
        a=a,
        b=b,
        names=names if funnelled else ("A", "B"),
        temperature=float(temperature),
        network=net,
        rates=rates,
        scan=tuple(scan),
        minima=tuple(minima),
        states=tuple(states),
        fastest=tuple(fastest),
    )
