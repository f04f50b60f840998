"""A symmetry comes back from the JSON it wrote; what is known of it does not depend on its words."""

import json

import numpy as np
import pytest

from jaxland.errors import DataError, ProblemError
from jaxland.problem.particles import ClusterSymmetry
from jaxland.problem.stored_symmetry import symmetry_from_json
from jaxland.problem.symmetry import DenseSymmetry, NoSymmetry, Symmetry

RNG = np.random.default_rng(0)


class Mirror(Symmetry):
    """A group of a user's own: x -> -x."""

    zero_modes = 0

    def align(self, w, reference):
        return min(w, -w, key=lambda a: float(np.linalg.norm(a - reference)))

    def order(self):
        return 2

    def describe(self):
        return "mirror"


@pytest.mark.parametrize(
    "symmetry",
    [
        NoSymmetry(),
        DenseSymmetry((2, 5, 2), True),
        DenseSymmetry((2, 3, 4, 2), False),
        ClusterSymmetry(2),
        ClusterSymmetry(7),
    ],
    ids=lambda s: s.describe(),
)
def test_it_comes_back_from_json(symmetry):
    back = symmetry_from_json(json.loads(json.dumps(symmetry.to_json())))
    assert type(back) is type(symmetry) and back.to_json() == symmetry.to_json()
    assert back.order() == symmetry.order() and back.zero_modes == symmetry.zero_modes
    assert back.describe() == symmetry.describe()
    size = getattr(symmetry, "size", 3 * getattr(symmetry, "atoms", 1))
    w, reference = RNG.normal(size=(2, size))
    np.testing.assert_array_equal(back.align(w, reference), symmetry.align(w, reference))
    np.testing.assert_array_equal(back.canonical(w), symmetry.canonical(w))


def test_a_group_of_ones_own_keeps_what_a_file_can_keep():
    back = symmetry_from_json(json.loads(json.dumps(Mirror().to_json())))
    assert back.order() == 2 and back.zero_modes == 0 and back.describe() == "mirror"
    assert back.to_json() == Mirror().to_json()
    for ask in (lambda: back.align(np.ones(2), np.ones(2)), lambda: back.orbit_size(np.ones(2))):
        with pytest.raises(ProblemError, match="give the problem itself"):
            ask()


@pytest.mark.parametrize(
    "told", [{}, {"kind": "hidden units", "sizes": 3, "odd": True}, {"kind": "cluster"}, {"kind": "?"}]
)
def test_what_is_no_symmetry_is_refused(told):
    with pytest.raises(DataError, match="symmetry"):
        symmetry_from_json(told)
