"""The published numbers of the fermion chain, from its published weights and Hessian (data in ../shared/data)."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "fermion_chain_cnn.npz"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="../shared/data/fermion_chain_cnn.npz is not there")
@pytest.mark.filterwarnings("ignore::jaxland.hessian.CurvatureWarning")
def test_published_influence_relatif_and_lees(x64):
    from examples.papers import fermion_chain as chain
    from jaxland import hessian

    with np.load(DATA) as archive:
        known = {k: archive[k] for k in archive}
    diagram = chain.diagram()
    x, test = diagram.x, diagram.test
    assert x.shape == (1000, 924) and x.min() == 0 and x.max() == 1
    names = ("layer1_0", "layer2_0", "layer3_0", "fc1")
    params = tuple(jnp.asarray(known[f"w_{n}_{k}"], float) for n in names for k in ("weight", "bias"))
    problem = chain.regularised_problem(params, x[known["shuffle"]], chain.LABELS[known["shuffle"]])
    assert float(problem.energy()) == pytest.approx(0.111, abs=1e-3)
    curvature = hessian.curvature(problem, damping=0.2, matrix=known["hessian_published"])
    found = hessian.influence(curvature, (test[:1], chain.TEST_LABELS[:1]), relative=True)
    for ours, theirs in (
        (found.values[0], known["published_influence_test0"]),
        (found.relatif()[0], known["published_relatif_test0"]),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())
    for threshold, m in zip(("1", "0.1", "0.01", "0.001"), known["published_lees_m"]):
        score = hessian.extrapolation(curvature, (test, chain.TEST_LABELS), of="loss", m=int(m))
        np.testing.assert_allclose(score.scores, known[f"published_lees_true_t{threshold}"], atol=1e-4)
    right = np.asarray(problem.predict(None, jnp.asarray(test))).argmax(axis=1) == chain.TEST_LABELS
    assert right.sum() == 44 and list(np.flatnonzero(~right)) == list(range(21, 27))
