"""Minimum-energy paths between trained networks of any size."""

from jaxland.paths.auto_neb import minimum_energy_path
from jaxland.paths.ensemble import PathEnsemble, connect_minima
from jaxland.paths.profile import Profile, Recomputed
from jaxland.paths.result import MinimumEnergyPath, load_path
from jaxland.paths.settings import Cycle, PathSettings, cycles
from jaxland.paths.state import PathProgress

__all__ = [
    "Cycle",
    "MinimumEnergyPath",
    "PathEnsemble",
    "PathProgress",
    "PathSettings",
    "Profile",
    "Recomputed",
    "connect_minima",
    "cycles",
    "load_path",
    "minimum_energy_path",
]
