"""Minima, transition states, disconnectivity graph, groups and conserved weights of a loss."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxland.landscape.interpretation import Interpretation, interpret
    from jaxland.landscape.physics.analysis import Analysis, analyse
    from jaxland.landscape.physics.averaging import AveragedPrediction, average_predictions
    from jaxland.landscape.physics.funnels import Funnels, frustration
    from jaxland.landscape.physics.kinetics import RateNetwork
    from jaxland.landscape.physics.thermodynamics import Thermodynamics, with_log_products
    from jaxland.landscape.result import Landscape
    from jaxland.landscape.search.explore import explore
    from jaxland.landscape.search.rounds import Progress
    from jaxland.landscape.search.settings import SearchSettings
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
    from jaxland.landscape.weights.conserved import ConservedWeights, conserved_weights, lowest_windows
    from jaxland.landscape.weights.group import GroupConservation
    from jaxland.landscape.weights.removal import removal_costs
    from jaxland.landscape.weights.settings import ConservationSettings
    from jaxland.landscape.weights.values import ValuesPerMinimum, values_per_minimum

_HOMES = {
    "interpretation": ("Interpretation", "interpret"),
    "physics.analysis": ("Analysis", "analyse"),
    "physics.averaging": ("AveragedPrediction", "average_predictions"),
    "physics.funnels": ("Funnels", "frustration"),
    "physics.kinetics": ("RateNetwork",),
    "physics.thermodynamics": ("Thermodynamics", "with_log_products"),
    "result": ("Landscape",),
    "search.explore": ("explore",),
    "search.rounds": ("Progress",),
    "search.settings": ("SearchSettings",),
    "search.stationary": ("Tolerances",),
    "store": ("Store",),
    "tree": (
        "LevelCut",
        "MergeTree",
        "energy_windows",
        "level_cut",
        "merge_tree",
        "monotonic_basins",
        "skeleton",
    ),
    "weights.conserved": ("ConservedWeights", "conserved_weights", "lowest_windows"),
    "weights.group": ("GroupConservation",),
    "weights.settings": ("ConservationSettings",),
    "weights.removal": ("removal_costs",),
    "weights.values": ("ValuesPerMinimum", "values_per_minimum"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Analysis",
    "AveragedPrediction",
    "ConservationSettings",
    "ConservedWeights",
    "Funnels",
    "GroupConservation",
    "Interpretation",
    "Landscape",
    "LevelCut",
    "MergeTree",
    "Progress",
    "RateNetwork",
    "SearchSettings",
    "Store",
    "Thermodynamics",
    "Tolerances",
    "ValuesPerMinimum",
    "analyse",
    "average_predictions",
    "conserved_weights",
    "energy_windows",
    "explore",
    "frustration",
    "interpret",
    "level_cut",
    "lowest_windows",
    "merge_tree",
    "monotonic_basins",
    "removal_costs",
    "skeleton",
    "values_per_minimum",
    "with_log_products",
]


def __getattr__(name: str) -> Any:
    # Imported when first used: the command line reads the search's settings without JAX.
    if name in _HOME:
        return getattr(import_module(f"jaxland.landscape.{_HOME[name]}"), name)
    raise AttributeError(f"module 'jaxland.landscape' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
