"""Disconnectivity graphs: energy upwards, each minimum a line ending at its energy, groups meeting at level energies.

``place_tree`` places the tree without crossings; ``disconnectivity_graph`` draws it with matplotlib,
``interactive_svg`` as a drawing in a page, to zoom, search, fold and ask. (Becker & Karplus 1997; Wales, Miller
& Walsh 1998.)
"""

from jaxland.report.disconnectivity.colours import notable_groups
from jaxland.report.disconnectivity.figure import disconnectivity_graph
from jaxland.report.disconnectivity.interactive import Sayings, interactive_svg
from jaxland.report.disconnectivity.tree import Branch, PlacedTree, place_tree
from jaxland.report.disconnectivity.view import visible_top

__all__ = [
    "Branch",
    "PlacedTree",
    "Sayings",
    "disconnectivity_graph",
    "interactive_svg",
    "notable_groups",
    "place_tree",
    "visible_top",
]
