"""Minima, transition states, disconnectivity graph, groups and conserved weights of a loss."""

from jaxland.landscape.conserved import ConservedWeights, GroupConservation, conserved_weights
from jaxland.landscape.result import Landscape
from jaxland.landscape.search import Progress, Settings, explore
from jaxland.landscape.stationary import Tolerances
from jaxland.landscape.store import Store
from jaxland.landscape.tree import LevelCut, MergeTree, energy_windows, level_cut, merge_tree, monotonic_basins

__all__ = [
    "ConservedWeights",
    "GroupConservation",
    "Landscape",
    "LevelCut",
    "MergeTree",
    "Progress",
    "Settings",
    "Store",
    "Tolerances",
    "conserved_weights",
    "energy_windows",
    "explore",
    "level_cut",
    "merge_tree",
    "monotonic_basins",
]
