"""What files of jaxland 0.2.0 tell of a symmetry: words, where later ones keep JSON."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from jaxland.problem.particles import ClusterSymmetry
from jaxland.problem.symmetry import DenseSymmetry, NoSymmetry


def symmetry_of_0_2(words: str, size: int) -> dict[str, Any] | None:
    """A symmetry as ``Symmetry.to_json`` writes it, from the words that 0.2.0 kept of it.

    Args:
        words: of a store's identity, or of an archive's ``problem``.
        size: number of parameters, which must fit.

    Returns:
        None where the words are of no symmetry of 0.2.0.

    >>> symmetry_of_0_2("hidden-unit permutations and sign flips of (2, 2, 2)", 12)
    {'kind': 'hidden units', 'sizes': [2, 2, 2], 'odd': True}
    """
    words = words.removeprefix(f"{size} parameters, symmetry: ")
    if words == "none":
        return NoSymmetry().to_json()
    atoms = re.fullmatch(r"rigid motions, inversion and permutations of (\d{1,9}) atoms", words)
    if atoms and 3 * int(atoms[1]) == size:
        return ClusterSymmetry(int(atoms[1])).to_json()
    dense = re.fullmatch(r"hidden-unit permutations( and sign flips)? of \(([\d, ]+)\)", words)
    if dense:
        sizes = [int(s) for s in dense[2].split(",") if s.strip()]
        if sum((a + 1) * b for a, b in pairwise(sizes)) == size:
            return DenseSymmetry(sizes, odd=dense[1] is not None).to_json()
    return None
