"""Landscape: the minima and transition states of one problem, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxland.errors import ArgumentError, DataError, DependencyError
from jaxland.landscape import network
from jaxland.problem.scale import Scale
from jaxland.problem.stored_symmetry import symmetry_from_json
from jaxland.problem.symmetry import Symmetry
from jaxland.showing import brief

if TYPE_CHECKING:
    import xarray

_PER_MINIMUM = ("energies", "coordinates", "gradients", "log_products", "orbit_sizes", "lowest_eigenvalues", "hits")
_PER_TS = (
    "ts_energies",
    "ts_coordinates",
    "ts_ends",
    "ts_log_products",
    "ts_orbit_sizes",
    "ts_eigenvalues",
    "ts_gradients",
)


@dataclass(frozen=True, eq=False)
class Landscape:
    """Minima, sorted by energy, and the transition states that join them. Points are classes modulo symmetry.

    Attributes:
        problem: whose landscape it is, where it is at hand.
        energies: [M], ascending.
        coordinates: [M, N] flat parameters.
        gradients: [M] rms gradient.
        log_products: [M] sum of the logarithms of the positive Hessian eigenvalues.
        orbit_sizes: [M] number of distinct images under the symmetry.
        lowest_eigenvalues: [M] of the Hessian (zero modes of the symmetry left out).
        hits: [M] how often each minimum was found, from elsewhere than itself.
        ts_energies: [T].
        ts_coordinates: [T, N].
        ts_ends: [T, 2] the two minima each joins, as indices; equal for a degenerate rearrangement.
        ts_log_products, ts_orbit_sizes: [T].
        ts_eigenvalues: [T] the negative Hessian eigenvalue.
        ts_gradients: [T] rms gradient.
        settings: how it was searched.
        statistics: what the search cost and found.
    """

    problem: Any
    energies: np.ndarray
    coordinates: np.ndarray
    gradients: np.ndarray
    log_products: np.ndarray
    orbit_sizes: np.ndarray
    lowest_eigenvalues: np.ndarray
    hits: np.ndarray
    ts_energies: np.ndarray
    ts_coordinates: np.ndarray
    ts_ends: np.ndarray
    ts_log_products: np.ndarray
    ts_orbit_sizes: np.ndarray
    ts_eigenvalues: np.ndarray
    ts_gradients: np.ndarray | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)

    __repr__ = brief

    def __post_init__(self) -> None:
        m, t = len(self.energies), len(self.ts_energies)
        for names, length in ((_PER_MINIMUM, m), (_PER_TS, t)):
            for name in names:
                value = getattr(self, name)
                if value is not None and len(value) != length:
                    raise DataError(f"{name} has {len(value)} entries where {length} are needed")
        if m and np.any(np.diff(self.energies) < 0):
            raise DataError("energies must ascend; Landscape.from_points sorts for you")
        if not (np.isfinite(self.energies).all() and np.isfinite(self.ts_energies).all()):
            raise DataError("a landscape holds finite energies only")
        if np.shape(self.ts_ends) != (t, 2):
            raise DataError(f"ts_ends must have shape [{t}, 2], got {np.shape(self.ts_ends)}")
        if t and (np.min(self.ts_ends) < 0 or np.max(self.ts_ends) >= m):
            raise DataError(f"ts_ends must be indices of the {m} minima")

    @classmethod
    def from_points(
        cls,
        energies: Any,
        coordinates: Any,
        ts_energies: Any = (),
        ts_ends: Any = (),
        *,
        problem: Any = None,
        settings: dict[str, Any] | None = None,
        statistics: dict[str, Any] | None = None,
        **columns: Any,
    ) -> Landscape:
        """Build from unsorted arrays; a column that is not given is NaN (orbit_sizes and hits: 1).

        Args:
            energies: [M]; coordinates: [M, N]; ts_energies: [T]; ts_ends: [T, 2] as indices into these ``energies``.
            problem, settings, statistics: see the class.
            **columns: any other array of the class, in the order of ``energies`` or ``ts_energies``.
        """
        unknown = set(columns) - {f.name for f in fields(cls)}
        if unknown:
            raise ArgumentError(f"unknown columns: {', '.join(sorted(unknown))}")
        energies = np.asarray(energies, np.float64)
        ts_energies = np.asarray(ts_energies, np.float64)
        m, t = len(energies), len(ts_energies)
        coordinates = np.asarray(coordinates, np.float64)
        if coordinates.ndim != 2 or len(coordinates) != m:
            raise DataError(f"coordinates must have shape [{m}, N], got {coordinates.shape}")
        order = np.argsort(energies, kind="stable")
        rank = np.empty(m, int)
        rank[order] = np.arange(m)
        ends = np.asarray(ts_ends, int).reshape(t, 2)
        if t and (ends.min() < 0 or ends.max() >= m):
            raise DataError(f"ts_ends must be indices of the {m} minima")
        by_energy = np.argsort(ts_energies, kind="stable")

        def column(name: str, default: float, rows: np.ndarray) -> np.ndarray:
            value = columns.get(name)
            return np.full(len(rows), default)[rows] if value is None else np.asarray(value)[rows]

        ts_coordinates = columns.get("ts_coordinates")
        if ts_coordinates is None:
            ts_coordinates = np.full((t, coordinates.shape[1]), np.nan)
        return cls(
            problem=problem,
            energies=energies[order],
            coordinates=coordinates[order],
            gradients=column("gradients", np.nan, order),
            log_products=column("log_products", np.nan, order),
            orbit_sizes=column("orbit_sizes", 1, order),
            lowest_eigenvalues=column("lowest_eigenvalues", np.nan, order),
            hits=column("hits", 1, order),
            ts_energies=ts_energies[by_energy],
            ts_coordinates=np.asarray(ts_coordinates, np.float64).reshape(t, coordinates.shape[1])[by_energy],
            ts_ends=rank[ends][by_energy] if t else ends,
            ts_log_products=column("ts_log_products", np.nan, by_energy),
            ts_orbit_sizes=column("ts_orbit_sizes", 1, by_energy),
            ts_eigenvalues=column("ts_eigenvalues", np.nan, by_energy),
            ts_gradients=column("ts_gradients", np.nan, by_energy),
            settings=dict(settings or {}),
            statistics=dict(statistics or {}),
        )

    @property
    def n_minima(self) -> int:
        """M."""
        return len(self.energies)

    @property
    def n_ts(self) -> int:
        """T, degenerate rearrangements included."""
        return len(self.ts_energies)

    @property
    def size(self) -> int:
        """Number of parameters N."""
        return int(np.shape(self.coordinates)[1])

    @property
    def symmetry(self) -> Symmetry | None:
        """Of the problem, or as kept by a file; None where neither is known."""
        if self.problem is not None:
            return self.problem.symmetry
        told = self.settings.get("symmetry")
        return None if told is None else symmetry_from_json(told)

    @property
    def scale(self) -> Scale:
        """Units the search worked in; 1 where it is not known or was the user's."""
        return Scale(**self.statistics.get("scale", {}))

    @property
    def best(self) -> np.ndarray:
        """Parameters [N] of the lowest minimum."""
        if not self.n_minima:
            raise DataError("the landscape has no minima yet")
        return self.coordinates[0]

    @property
    def degenerate(self) -> np.ndarray:
        """bool [T]: both ends are the same minimum modulo symmetry."""
        return self.ts_ends[:, 0] == self.ts_ends[:, 1]

    def components(self) -> np.ndarray:
        """Label [M] of the connected component of each minimum: 0 holds the lowest minimum, and so on."""
        return network.components(self.n_minima, self.ts_ends)

    def connected(self) -> Landscape:
        """The part joined to the lowest minimum."""
        return self.restricted(np.flatnonzero(self.components() == 0))

    def restricted(self, minima: np.ndarray) -> Landscape:
        """The landscape of some minima (ascending indices) and the transition states among them."""
        minima = np.sort(np.asarray(minima, int))
        rank = np.full(self.n_minima, -1)
        rank[minima] = np.arange(len(minima))
        kept = (rank[self.ts_ends] >= 0).all(1)
        changes: dict[str, Any] = {name: np.asarray(getattr(self, name))[minima] for name in _PER_MINIMUM}
        for name in _PER_TS:
            value = getattr(self, name)
            changes[name] = None if value is None else np.asarray(value)[kept]
        changes["ts_ends"] = rank[self.ts_ends][kept]
        return replace(self, **changes)

    def to_networkx(self) -> Any:
        """networkx.MultiGraph: see ``network.to_networkx``."""
        return network.to_networkx(self)

    def to_pandas(self, what: str = "minima") -> Any:
        """A DataFrame without the coordinates: ``minima`` or ``transition_states``."""
        import pandas as pd

        if what == "minima":
            columns = {n: getattr(self, n) for n in _PER_MINIMUM if n != "coordinates"}
            frame = pd.DataFrame({"energy": columns.pop("energies"), **columns})
            frame["component"] = self.components()
            return frame.rename_axis("minimum")
        if what != "transition_states":
            raise ArgumentError(f"what must be minima or transition_states, got {what!r}")
        gradients = np.full(self.n_ts, np.nan) if self.ts_gradients is None else self.ts_gradients
        frame = pd.DataFrame(
            {
                "energy": self.ts_energies,
                "minimum_1": self.ts_ends[:, 0],
                "minimum_2": self.ts_ends[:, 1],
                "gradients": gradients,
                "eigenvalue": self.ts_eigenvalues,
                "log_products": self.ts_log_products,
                "orbit_sizes": self.ts_orbit_sizes,
                "degenerate": self.degenerate,
            }
        )
        return frame.rename_axis("transition_state")

    def describe(self) -> str:
        """One sentence."""
        if not self.n_minima:
            return "an empty landscape"
        labels = self.components()
        count = labels.max() + 1
        joined = int((labels == 0).sum())
        parts = "all connected" if count == 1 else f"{joined} connected to the lowest, {count} components"
        found = f"{self.n_minima} minima from {self.energies[0]:.6g} to {self.energies[-1]:.6g} ({parts})"
        if self.n_minima == 1:
            found = f"one minimum, at {self.energies[0]:.6g}"
        states = "one transition state" if self.n_ts == 1 else f"{self.n_ts} transition states"
        if self.degenerate.any():
            states += f" ({int(self.degenerate.sum())} degenerate)"
        return f"{found}, {states}{self._but()}"

    def _but(self) -> str:
        """What a sentence about the minima must not leave out: ``notes`` in few words."""
        kinks, flat = self.statistics.get("kinks"), self.statistics.get("flat")
        kinked = ""
        if kinks and kinks["lowest"] < self.energies[0]:
            kinked = f"; smooth minima only, {kinks['lowest']:.6g} was seen on a kink"
        along = f"; {flat['minima']} of the minima are points of flat valleys" if flat else ""
        return kinked + along

    def to_xarray(self) -> xarray.Dataset:
        """All columns with named dimensions: minimum, transition_state, coordinate, end.

        Raises:
            DependencyError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise DependencyError.of("xarray", "xarray") from error
        columns: dict[str, Any] = {
            name: (("minimum", "coordinate")[: np.ndim(getattr(self, name))], getattr(self, name))
            for name in _PER_MINIMUM
        }
        for name in _PER_TS:
            value = getattr(self, name)
            if value is not None:
                second = "end" if name == "ts_ends" else "coordinate"
                columns[name] = (("transition_state", second)[: np.ndim(value)], value)
        return xarray.Dataset(columns, attrs={"landscape": self.describe()})

    def notes(self) -> list[str]:
        """What a reader must know of the search, a sentence each: kinks, flat directions."""
        said = []
        kinks, flat = self.statistics.get("kinks"), self.statistics.get("flat")
        if kinks:
            below = self.n_minima and kinks["lowest"] < self.energies[0]
            than = f", below the lowest minimum by {self.energies[0] - kinks['lowest']:.3g}" if below else ""
            said.append(
                f"{kinks['ended']} of {kinks['quenches']} quenches ended on kinks, where the gradient jumps "
                f"({kinks['stationary']} of them stationary in Clarke's sense): the lowest at {kinks['lowest']:.6g}"
                f"{than}. This landscape holds smooth minima only, and its completeness speaks of these"
            )
        return said + ([flat["words"]] if flat else [])

    def _repr_html_(self) -> str:
        import html

        table = self.to_pandas().head(10).to_html(border=0, float_format=lambda v: f"{v:.6g}")
        notes = "".join(f"<p>{html.escape(note)}.</p>" for note in self.notes())
        return f"<p><b>Landscape</b>: {html.escape(self.describe())}</p>{notes}{table}"
