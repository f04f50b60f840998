"""Agreement with the published package on its three toy families, within both errors (needs scikit-learn < 1.7)."""

import numpy as np
import pytest

from jaxland import information

pytestmark = pytest.mark.peers


def families():
    rng = np.random.default_rng(0)
    n = 1000
    x = rng.normal(size=n)
    yield "normal", x, 0.6 * x + 0.8 * rng.normal(size=n)
    g = rng.gamma(1.0, size=n)
    yield "gamma-exponential", np.log(g), np.log(rng.exponential(1 / g))
    w = rng.exponential(0.5, size=n)
    yield "ordered Weinman", np.log(w), np.log(w + rng.exponential(0.3, size=n))


@pytest.mark.parametrize(("name", "x", "y"), [pytest.param(*f, id=f[0]) for f in families()])
def test_agreement_with_gmm_mi(name, x, y):
    peer = pytest.importorskip("gmm_mi.mi")
    mean, std = peer.EstimateMI().fit_estimate(np.c_[x, y])
    ours = information.mutual_information(x, y, null=0)
    assert abs(ours.mean - mean) < 2 * np.hypot(ours.std, std)
    assert 0.6 < ours.std / std < 1.7
