"""Minima, transition states, disconnectivity graph, groups and conserved weights of a loss."""

from jaxland.landscape.analysis import Analysis, analyse
from jaxland.landscape.averaging import AveragedPrediction, average_predictions
from jaxland.landscape.conserved import ConservedWeights, GroupConservation, conserved_weights
from jaxland.landscape.funnels import Funnels, frustration
from jaxland.landscape.kinetics import RateNetwork
from jaxland.landscape.performance import values
from jaxland.landscape.result import Landscape
from jaxland.landscape.search import Progress, Settings, explore
from jaxland.landscape.stationary import Tolerances
from jaxland.landscape.store import Store
from jaxland.landscape.thermodynamics import Thermodynamics, with_log_products
from jaxland.landscape.tree import (
    LevelCut,
    MergeTree,
    energy_windows,
    level_cut,
    merge_tree,
    monotonic_basins,
    skeleton,
)

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
