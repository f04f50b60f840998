"""PyTorch modules beside PyTorch itself: outputs, gradients and Hessian products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: torch)")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from jaxland import Problem, hessian  # noqa: E402
from jaxland.errors import DataError, ProblemError  # noqa: E402
from jaxland.models.torch_modules import from_torch, load_state  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding="same", groups=2)
        self.norm, self.group, self.head = nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        x = x + self.scale * torch.tanh(self.group(self.second(x)))
        x = F.max_pool2d(x, 2).mean(dim=(2, 3))
        return self.head(x.view(x.size(0), -1))


class Sentences(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.norm, self.out = nn.Embedding(11, 6), nn.LayerNorm(6), nn.Linear(12, 2)

    def forward(self, tokens):
        x = self.norm(self.words(tokens))
        weights = torch.softmax(x @ x.transpose(1, 2) / 6**0.5, dim=-1)
        first, second = (weights @ x).chunk(2, dim=1)
        return self.out(torch.cat([first.mean(1), second.sum(1)], dim=-1))


def shapes():
    images = (5, 2, 8, 8)
    return {
        "dense": (
            nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 3)),
            (5, 4),
        ),
        "pooled": (
            nn.Sequential(
                nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=1),
                nn.LeakyReLU(0.1),
                nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
                nn.MaxPool2d(2, padding=1),
                nn.AdaptiveAvgPool2d((1, 2)),
                nn.Flatten(),
                nn.Linear(8, 3),
            ),
            images,
        ),
        "series": (
            nn.Sequential(nn.Conv1d(2, 3, 3), nn.PReLU(3), nn.AdaptiveMaxPool1d(3), nn.Flatten(), nn.Softplus(2.0)),
            (5, 2, 9),
        ),
        "activations": (
            nn.Sequential(nn.GELU(), nn.SiLU(), nn.ELU(), nn.Hardtanh(), nn.Mish(), nn.LogSoftmax(dim=1)),
            (5, 4),
        ),
        "residual": (Residual(), images),
        "attention": (Sentences(), (5, 4)),
        "one layer": (nn.Linear(4, 2), (5, 4)),
    }


def inputs(name, shape):
    torch.manual_seed(1)
    return torch.randint(0, 11, shape) if name == "attention" else torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("name", shapes())
def test_outputs_and_gradients_are_those_of_torch(name):
    torch.manual_seed(0)
    module, shape = shapes()[name]
    module = module.double()
    x = inputs(name, shape)
    module(x)  # running statistics that are not the initial ones
    module.eval()
    model = from_torch(module)
    out = module(x)
    np.testing.assert_allclose(model(x.numpy()), out.detach().numpy(), rtol=1e-10, atol=1e-12)
    if not model.params:
        return
    (out**2).sum().backward()
    found = jax.grad(lambda p: jnp.sum(model.apply(p, x.numpy()) ** 2))(model.params)
    for key, value in module.named_parameters():
        np.testing.assert_allclose(found[key], value.grad.numpy(), rtol=1e-8, atol=1e-10, err_msg=key)


def test_hessian_products_and_influence_work():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(30, 3, dtype=torch.float64), torch.randint(0, 2, (30,))
    problem = Problem.from_model(from_torch(module), x.numpy(), y.numpy(), l2=0.01)
    flat = torch.cat([p.detach().reshape(-1) for p in module.parameters()])

    def loss(w):
        parts, at = {}, 0
        for key, p in module.named_parameters():
            parts[key] = w[at : at + p.numel()].reshape(p.shape)
            at += p.numel()
        out = torch.func.functional_call(module, parts, (x,))
        return F.cross_entropy(out, y) + 0.01 * (w**2).sum()

    # The flat view has PyTorch's order of parameters.
    theirs = torch.autograd.functional.hessian(loss, flat).numpy()
    np.testing.assert_allclose(problem.hessian(), theirs, rtol=1e-8, atol=1e-10)
    with pytest.warns(hessian.CurvatureWarning, match="not a stationary point"):
        curvature = hessian.curvature(problem, damping=0.5)
    found = hessian.influence(curvature, (x.numpy()[:2], y.numpy()[:2]))
    assert np.isfinite(found.values).all()


def test_what_is_not_known_is_named(tmp_path):
    with pytest.raises(ProblemError, match=r"uses layer LSTM \(0\), which jaxland does not know; layers known"):
        from_torch(nn.Sequential(nn.LSTM(3, 4)))

    class Branches(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ProblemError, match="must not branch on values"):
        from_torch(Branches())
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "small.pt")
    with pytest.raises(DataError, match=r"does not fit Linear: .*size mismatch"):
        load_state(nn.Linear(3, 2), tmp_path / "small.pt")
    (tmp_path / "no.pt").write_bytes(b"nothing")
    with pytest.raises(DataError, match="holds no state_dict that can be read"):
        load_state(nn.Linear(3, 2), tmp_path / "no.pt")
