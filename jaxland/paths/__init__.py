"""Minimum-energy paths between trained networks of any size."""

from jaxland.paths.auto_neb import MinimumEnergyPath, PathSettings, load_path, minimum_energy_path
from jaxland.paths.ensemble import PathEnsemble, connect_minima

__all__ = ["MinimumEnergyPath", "PathEnsemble", "PathSettings", "connect_minima", "load_path", "minimum_energy_path"]
