"""One problem is told from another."""

import hashlib

import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.runs import agree, digest, identity, probes, sample

X = np.random.default_rng(0).normal(size=(20, 2))
Y = np.random.default_rng(1).integers(0, 2, 20)


def problem(sizes=(2, 3, 2), activation="tanh", l2=1e-3, shift=0.0):
    return Problem.from_model(mlp(sizes, activation), X + shift, Y, l2=l2)


def test_a_problem_agrees_with_itself_and_no_other(x64):
    mine = identity(problem())
    assert agree(mine, identity(problem())) and agree(mine, identity(problem().at(np.ones(17))))
    for other in (problem(l2=2e-3), problem(shift=1e-6), problem((2, 4, 2)), problem(activation="relu")):
        assert not agree(mine, identity(other))


def test_probes_near_a_point_straddle_it(x64):
    found = problem(l2=0.0)
    at, ahead, behind = probes(found, found.w)
    assert at == pytest.approx(float(found.energy()), rel=1e-15) and len({at, ahead, behind}) == 3


def test_digest_and_sample():
    a, b = np.arange(4.0), np.asfortranarray(np.arange(6).reshape(2, 3))
    assert digest(a, b) == hashlib.sha256(a.tobytes() + np.ascontiguousarray(b).tobytes()).hexdigest()
    assert sample(3).tolist() == [0, 1, 2] and len(sample(10_000)) == 256 and sample(10_000)[-1] == 9_999
