"""Which minima are occupied at a temperature: the harmonic superposition of their basins.

A basin is taken as a harmonic well, so that the configuration integral of a landscape is a sum over its minima,

    Z = (2 pi T)^(kappa/2) sum_a Z_a,    ln Z_a = -E_a / T - f_a / 2 - ln o_a,

with f_a the sum of the logarithms of the kappa positive Hessian eigenvalues and o_a the order of the symmetry group
divided by the number of distinct images of the minimum (Wales, Energy Landscapes, 2003, ch. 7). Boltzmann's constant
is 1, temperatures are in units of the energy. For a network trained on n rows with mean loss E the occupation at
T = 1/n is the Laplace approximation of the Bayesian posterior over its minima: exp(-n E) is the likelihood, and
exp(-n lam |w|^2) the prior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.landscape.result import Landscape
from jaxland.showing import brief

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Thermodynamics:
    """Of a landscape over temperatures [K].

    Attributes:
        temperatures: [K].
        free_energies: [K] F = -T ln Z, of all minima.
        energies: [K] mean energy kappa T / 2 + <E>.
        entropies: [K] (U - F) / T.
        heat_capacities: [K] kappa / 2 + (<E^2> - <E>^2) / T^2.
        occupations: [K, M] equilibrium probability of each minimum.
        minima: [K, M] free energy of each minimum.
        modes: kappa, number of vibrational modes.
    """

    temperatures: np.ndarray
    free_energies: np.ndarray
    energies: np.ndarray
    entropies: np.ndarray
    heat_capacities: np.ndarray
    occupations: np.ndarray
    minima: np.ndarray
    modes: int

    __repr__ = brief

    @property
    def lowest(self) -> np.ndarray:
        """int [K]: the minimum of lowest free energy, the one occupied most, at each temperature."""
        return self.occupations.argmax(1)

    @property
    def effective(self) -> np.ndarray:
        """[K] over how many minima the occupation is spread: exp of its Shannon entropy."""
        p = np.where(self.occupations > 0, self.occupations, 1.0)
        return np.exp(-(p * np.log(p)).sum(1))

    def crossings(self) -> list[tuple[float, int, int]]:
        """(temperature, minimum below it, minimum above it) wherever the minimum of lowest free energy changes."""
        order = np.argsort(self.temperatures, kind="stable")
        lowest = self.lowest[order]
        changes = np.flatnonzero(np.diff(lowest))
        t = self.temperatures[order]
        return [(math.sqrt(t[k] * t[k + 1]), int(lowest[k]), int(lowest[k + 1])) for k in changes]

    def groups(self, members: Mapping[str, ArrayLike] | Sequence[ArrayLike]) -> pandas.DataFrame:
        """Occupation of groups of minima: a DataFrame with a row per temperature and a column per group.

        Args:
            members: indices by name, such as ``LevelCut.groups(level)`` gives, or a sequence of index arrays.
        """
        import pandas as pd

        named = members if isinstance(members, Mapping) else {str(k): g for k, g in enumerate(members)}
        m = self.occupations.shape[1]
        columns = {name: self.occupations[:, checked(g, m, f"group {name}")].sum(1) for name, g in named.items()}
        return pd.DataFrame(columns, index=pd.Index(self.temperatures, name="temperature"))

    def to_pandas(self, what: str = "curves") -> pandas.DataFrame:
        """A DataFrame with a row per temperature: ``curves``, or ``occupations`` with a column per minimum."""
        import pandas as pd

        index = pd.Index(self.temperatures, name="temperature")
        if what == "occupations":
            return pd.DataFrame(self.occupations, index=index)
        if what != "curves":
            raise ArgumentError(f"what must be curves or occupations, got {what!r}")
        return pd.DataFrame(
            {
                "free_energy": self.free_energies,
                "energy": self.energies,
                "entropy": self.entropies,
                "heat_capacity": self.heat_capacities,
                "lowest": self.lowest,
                "occupation": self.occupations.max(1),
                "effective_minima": self.effective,
            },
            index=index,
        )

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(border=0, float_format=lambda v: f"{v:.5g}", max_rows=12)


def thermodynamics(
    landscape: Landscape,
    temperatures: ArrayLike | None = None,
    *,
    modes: int | None = None,
    group_order: float | None = None,
    vibrations: bool = True,
) -> Thermodynamics:
    """Free energy, energy, entropy, heat capacity and occupation of the minima over temperatures.

    Args:
        landscape: with the log products of its Hessian eigenvalues, unless ``vibrations`` is False.
        temperatures: [K] or one number, positive; default ``default_temperatures``.
        modes: kappa; default the number of parameters less the zero modes of the problem's symmetry. 0 where no
            coordinates are known: energies, entropies and heat capacities are then of the choice of a minimum alone.
        group_order: order of the symmetry group; default the problem's, or as kept in the settings of a landscape
            from a file, or 1. It shifts F by T ln(order) and changes no occupation.
        vibrations: False takes all basins as equally wide (f = 0).

    Raises:
        ArgumentError: no minima, a temperature that is not positive, or modes not positive.
        DataError: log products are missing.

    Two wells of equal width, the upper one ln 3 higher in units of T:

    >>> wells = Landscape.from_points([0.0, np.log(3.0)], np.zeros((2, 1)))
    >>> thermodynamics(wells, 1.0, vibrations=False).occupations.round(3).tolist()
    [[0.75, 0.25]]
    """
    if not landscape.n_minima:
        raise ArgumentError("the landscape has no minima: nothing is occupied")
    t = default_temperatures(landscape) if temperatures is None else checked_temperatures(temperatures)
    kappa = vibrational_modes(landscape) if modes is None else int(modes)
    if kappa < (1 if modes is not None and landscape.size else 0):
        raise ArgumentError(f"modes must be at least 1, got {kappa}")
    log_z = log_weights(landscape, t, vibrations=vibrations, group_order=group_order)
    log_sum = np.logaddexp.reduce(log_z, axis=1)
    p = np.exp(log_z - log_sum[:, None])
    lowest = float(landscape.energies[0])
    above = landscape.energies - lowest
    mean = p @ above
    deviation = np.where(p > 0, (above - mean[:, None]) / t[:, None], 0.0)
    free = lowest - t * (log_sum + 0.5 * kappa * np.log(2 * np.pi * t))
    energy = 0.5 * kappa * t + lowest + mean
    each = lowest - t[:, None] * (log_z + (0.5 * kappa * np.log(2 * np.pi * t))[:, None])
    capacity = 0.5 * kappa + (p * deviation**2).sum(1)
    return Thermodynamics(
        temperatures=t,
        free_energies=free,
        energies=energy,
        entropies=(energy - free) / t,
        heat_capacities=capacity,
        occupations=p,
        minima=each,
        modes=kappa,
    )


def log_weights(
    landscape: Landscape, temperatures: ArrayLike, *, vibrations: bool = True, group_order: float | None = None
) -> np.ndarray:
    """ln Z_a + E_0 / T: [K, M] for temperatures [K], with E_0 the lowest energy.

    Raises:
        ArgumentError: a temperature is not positive. DataError: log products are missing.
    """
    t = checked_temperatures(temperatures)
    above = landscape.energies - landscape.energies[0]
    f = log_products(landscape) if vibrations else np.zeros(landscape.n_minima)
    return -above / t[:, None] - 0.5 * f - log_orders(landscape, group_order=group_order)


def log_products(landscape: Landscape, *, transition_states: bool = False) -> np.ndarray:
    """The column, if it is complete.

    Raises:
        DataError: some entries are not finite.
    """
    column = np.asarray(landscape.ts_log_products if transition_states else landscape.log_products, float)
    used = ~landscape.degenerate if transition_states else np.ones(len(column), bool)
    missing = np.flatnonzero(~np.isfinite(column) & used)
    if len(missing):
        what = "transition states" if transition_states else "minima"
        raise DataError(
            f"{len(missing)} of {len(column)} {what} have no log product of Hessian eigenvalues (the first is "
            f"number {missing[0]}), which says how wide their basins are. Compute them with "
            "with_log_products(landscape), which needs the problem and its N x N Hessians, or take all basins as "
            "equally wide with vibrations=False"
        )
    return column


def log_orders(
    landscape: Landscape, *, transition_states: bool = False, group_order: float | None = None
) -> np.ndarray:
    """ln o: ln of the order of the symmetry group less that of the number of distinct images, one per point."""
    symmetry = getattr(landscape.problem, "symmetry", None)
    order = group_order
    if order is None:
        order = landscape.settings.get("group_order", 1) if symmetry is None else symmetry.order()
    if not order > 0:
        raise ArgumentError(f"group_order must be positive, got {order}")
    sizes = landscape.ts_orbit_sizes if transition_states else landscape.orbit_sizes
    points = landscape.ts_coordinates if transition_states else landscape.coordinates
    sizes = np.asarray(sizes, float)
    known = np.isfinite(sizes) & (sizes > 0)
    logs = np.log(np.where(known, sizes, 1.0))
    for i in np.flatnonzero(~known):
        # h! 2^h does not fit a float for some 150 hidden units.
        if symmetry is None or not np.isfinite(points[i]).all():
            raise DataError(f"orbit size {sizes[i]} of point {i} is not a positive number")
        logs[i] = math.log(symmetry.orbit_size(points[i]))
    return math.log(order) - logs


def vibrational_modes(landscape: Landscape) -> int:
    """kappa: the number of parameters less the zero modes of the symmetry, where that is known."""
    return max(0, landscape.size - (0 if landscape.symmetry is None else landscape.symmetry.zero_modes))


def default_temperatures(landscape: Landscape, count: int = 120) -> np.ndarray:
    """Equal ratios, from where the lowest minimum alone is occupied to where all are about equally likely by energy.

    The lowest is a tenth of the gap to the next minimum, the highest twice the spread of energies; at most nine
    decades. 1/n of the problem's rows is among them.
    """
    energies = np.asarray(landscape.energies)
    span = float(energies[-1] - energies[0]) if len(energies) else 0.0
    if span <= 0:
        low, high = 1e-3 * landscape.scale.energy, 1e1 * landscape.scale.energy
    else:
        gaps = energies[energies > energies[0] + 1e-9 * span] - energies[0]
        high = 2 * span
        low = max(0.1 * float(gaps[0]), 1e-9 * high)
    grid = np.geomspace(low, high, count)
    rows = int(getattr(landscape.problem, "n", 0) or 0)
    return np.unique(np.append(grid, 1.0 / rows)) if rows else grid


def checked_temperatures(temperatures: ArrayLike) -> np.ndarray:
    """Positive temperatures [K].

    >>> checked_temperatures(0.5).tolist()
    [0.5]

    Raises:
        ArgumentError: none, or one that is not a positive finite number.
    """
    t = np.atleast_1d(np.asarray(temperatures, float))
    if t.ndim != 1 or not len(t):
        raise ArgumentError(f"temperatures must be one number or a list of them, got shape {t.shape}")
    bad = np.flatnonzero(~(np.isfinite(t) & (t > 0)))
    if len(bad):
        raise ArgumentError(
            f"temperatures must be positive and finite (in units of the energy), got {t[bad[0]]:g}"
            + (f" at position {bad[0]}" if len(t) > 1 else "")
        )
    return t


def checked(members: ArrayLike, count: int, what: str) -> np.ndarray:
    """Ascending indices of minima, each once.

    Raises:
        ArgumentError: none, or one that is no index of the ``count`` minima.
    """
    indices = np.atleast_1d(np.asarray(members))
    if indices.dtype == bool and indices.shape == (count,):
        indices = np.flatnonzero(indices)
    if indices.ndim != 1 or not indices.size:
        raise ArgumentError(f"{what} must hold at least one minimum")
    if not np.issubdtype(indices.dtype, np.integer):
        raise ArgumentError(f"{what} must hold indices of minima (integers), got {indices.dtype}")
    bad = indices[(indices < 0) | (indices >= count)]
    if len(bad):
        raise ArgumentError(f"{what}: there is no minimum {bad[0]}, only 0..{count - 1}")
    return np.unique(indices)


def with_log_products(landscape: Landscape, *, zero: float = 1e-8) -> Landscape:
    """The landscape with the log products that are missing, from exact Hessians (N x N) of its problem.

    Args:
        landscape: with its problem.
        zero: eigenvalues within +-zero count as flat, in units of the landscape's scale.

    Raises:
        ProblemError: the problem is not at hand. DataError: a point has no coordinates or a wrong index.
    """
    if landscape.problem is None:
        raise ProblemError("the landscape has no problem: its Hessians cannot be computed")
    zero = zero * landscape.scale.curvature
    minima = _completed(landscape, landscape.log_products, landscape.coordinates, 0, "minimum", zero)
    states = _completed(landscape, landscape.ts_log_products, landscape.ts_coordinates, 1, "transition state", zero)
    return replace(landscape, log_products=minima, ts_log_products=states)


def _completed(
    landscape: Landscape, column: np.ndarray, points: np.ndarray, index: int, what: str, zero: float
) -> np.ndarray:
    from jaxland.landscape.weights.scoring import precision

    out = np.array(column, float)
    problem = landscape.problem
    for i in np.flatnonzero(~np.isfinite(out)):
        if not np.isfinite(points[i]).all():
            raise DataError(f"{what} {i} has no coordinates: its Hessian cannot be computed")
        with precision(problem.dtype == np.float64):
            modes = np.linalg.eigvalsh(np.asarray(problem.hessian(points[i].astype(problem.dtype)), np.float64))
        negative = int((modes < -zero).sum())
        if negative != index:
            raise DataError(f"{what} {i} has {negative} negative Hessian eigenvalues: it is no {what}")
        out[i] = np.log(modes[modes > zero]).sum()
    return out
