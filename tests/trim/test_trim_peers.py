"""Parity with captum: same weights, same nodes, float64, 1e-9."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import trim

torch = pytest.importorskip("torch")
attr = pytest.importorskip("captum.attr")
pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("x64")]

RNG = np.random.default_rng(0)
SIZES = (20, 16, 12, 3)
WEIGHTS = [(RNG.normal(size=(a, b)) / np.sqrt(a), 0.3 * RNG.normal(size=b)) for a, b in itertools.pairwise(SIZES)]
X, B = RNG.normal(size=(6, 20)), RNG.normal(size=(6, 20))
KERNEL, LAST = RNG.normal(size=(3, 3, 1, 4)), RNG.normal(size=(4 * 4 * 4, 3))
IMAGES = RNG.normal(size=(3, 8, 8, 1))


def dense(kind):
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[kind]

    def apply(params, x):
        for k, (w, b) in enumerate(params):
            x = x @ w + b
            x = activation(x) if k < len(params) - 1 else x
        return x

    return apply


def conv(x):
    x = jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    x = jax.nn.relu(x)
    x = x.reshape(len(x), 4, 2, 4, 2, 4).mean((2, 4))
    return x.reshape(len(x), -1) @ LAST


def torch_dense(kind):
    layers = []
    for w, b in WEIGHTS:
        linear = torch.nn.Linear(*w.shape).double()
        linear.weight.data, linear.bias.data = torch.tensor(w.T.copy()), torch.tensor(b)
        layers += [linear, {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}[kind]()]
    return torch.nn.Sequential(*layers[:-1])


class TorchConv(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False).double()
        self.conv.weight.data = torch.tensor(KERNEL.transpose(3, 2, 0, 1).copy())
        self.relu, self.pool = torch.nn.ReLU(), torch.nn.AvgPool2d(2)

    def forward(self, x):
        return self.pool(self.relu(self.conv(x))).permute(0, 2, 3, 1).reshape(len(x), -1) @ torch.tensor(LAST)


def near(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), atol=1e-9)


@pytest.mark.parametrize("kind", ["relu", "tanh", "sigmoid"])
def test_dense_network(kind):
    net, x, b = torch_dense(kind), torch.tensor(X, requires_grad=True), torch.tensor(B)
    ours = {"params": WEIGHTS, "target": 1, "warn": False}
    f = dense(kind)
    for rule, method in (("gauss", "gausslegendre"), ("right", "riemann_right"), ("middle", "riemann_middle")):
        got = trim.attribute(f, X, method="ig", rule=rule, nodes=37, baseline=B, **ours)
        near(got.coefficients, attr.IntegratedGradients(net).attribute(x, b, target=1, n_steps=37, method=method))
    near(trim.attribute(f, X, method="ixg", **ours).coefficients, attr.InputXGradient(net).attribute(x, target=1))
    near(trim.attribute(f, X, method="saliency", **ours).coefficients, attr.Saliency(net).attribute(x, target=1))
    lifted = trim.attribute(f, X, method="deeplift", baseline=B, **ours).coefficients
    near(lifted, attr.DeepLift(net).attribute(x, b, target=1))
    groups = np.arange(20) // 3
    mask = torch.tensor(groups)[None]
    ablated = attr.FeatureAblation(net).attribute(x, b, target=1, feature_mask=mask)[:, ::3]
    near(trim.attribute(f, X, method="ablation", groups=groups, baseline=B, **ours).scores, ablated)


def test_convolutional_network():
    net = TorchConv()
    x = torch.tensor(IMAGES.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    shape = lambda a: a.permute(0, 2, 3, 1)  # noqa: E731
    kw = {"target": 2, "warn": False}
    near(
        trim.attribute(conv, IMAGES, method="ig", nodes=20, **kw).coefficients,
        shape(attr.IntegratedGradients(net).attribute(x, target=2, n_steps=20)),
    )
    near(
        trim.attribute(conv, IMAGES, method="deeplift", **kw).coefficients,
        shape(attr.DeepLift(net).attribute(x, target=2)),
    )
    ours = trim.attribute(conv, IMAGES, method="occlusion", window=(2, 2, 1), stride=(2, 2, 1), **kw).coefficients
    theirs = attr.Occlusion(net).attribute(x, target=2, sliding_window_shapes=(1, 2, 2), strides=(1, 2, 2))
    near(ours, shape(theirs))


def test_frequencies():
    """The spectrum as captum's input, real and imaginary parts added."""
    net = torch_dense("tanh")
    z = torch.view_as_real(torch.fft.rfft(torch.tensor(X)))
    f = lambda p: net(torch.fft.irfft(torch.view_as_complex(p.contiguous()), n=20))  # noqa: E731
    theirs = attr.IntegratedGradients(f).attribute(z, target=0, n_steps=30).sum(-1)
    ours = trim.attribute(dense("tanh"), X, params=WEIGHTS, transform=trim.rfft(20), nodes=30, target=0)
    near(ours.coefficients, theirs)
