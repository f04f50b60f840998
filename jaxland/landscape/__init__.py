"""Minima, transition states, disconnectivity graph, groups and conserved weights of a loss."""

from jaxland.landscape.physics.analysis import Analysis, analyse
from jaxland.landscape.physics.averaging import AveragedPrediction, average_predictions
from jaxland.landscape.physics.funnels import Funnels, frustration
from jaxland.landscape.physics.kinetics import RateNetwork
from jaxland.landscape.physics.thermodynamics import Thermodynamics, with_log_products
from jaxland.landscape.result import Landscape
from jaxland.landscape.search.explore import Progress, Settings, explore
from jaxland.landscape.search.stationary import Tolerances
from jaxland.landscape.store import Store
from jaxland.landscape.tree import (
    LevelCut,
    MergeTree,
    energy_windows,
    level_cut,
    merge_tree,
    monotonic_basins,
    skeleton,
)
from jaxland.landscape.weights.conserved import ConservedWeights, GroupConservation, conserved_weights
from jaxland.landscape.weights.performance import values

__all__ = [
    "Analysis",
    "AveragedPrediction",
    "ConservedWeights",
    "Funnels",
    "GroupConservation",
    "Landscape",
    "LevelCut",
    "MergeTree",
    "Progress",
    "RateNetwork",
    "Settings",
    "Store",
    "Thermodynamics",
    "Tolerances",
    "analyse",
    "average_predictions",
    "conserved_weights",
    "energy_windows",
    "explore",
    "frustration",
    "level_cut",
    "merge_tree",
    "monotonic_basins",
    "skeleton",
    "values",
    "with_log_products",
]
