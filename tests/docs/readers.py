"""What a reader of a page has at hand before its first block of Python: data and results that its text speaks of.

By page: a program, and the names it hands over. Imports are the page's own business.
"""

BOARD = """
from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.landscape import explore

split = load("checkerboard").split(0.3, seed=0, scale="standardise")
x, y = split.train.x, split.train.y
problem = Problem.from_model(mlp((2, 4, 2)), x, y, l2=1e-4)
landscape = explore(problem, store="runs/credit/landscape.db", minima=30)
"""
NETWORK = """
import numpy as np
from scipy.optimize import minimize

from jaxland import Problem, from_nnx, mlp

rng = np.random.default_rng(0)
x, xt = rng.normal(size=(300, 30)), rng.normal(size=(20, 30))
y, yt = (x[:, 0] * x[:, 1] > 0).astype(int), (xt[:, 0] * xt[:, 1] > 0).astype(int)


def minimum(model, seed=0):
    problem = Problem.from_model(model, x, y, l2=1e-3)

    def both(w):
        return float(problem.energy(w)), np.asarray(problem.gradient(w), float)

    start = np.random.default_rng(seed).normal(size=problem.size)
    return minimize(both, start, jac=True, method="L-BFGS-B", options={"maxiter": 3000, "gtol": 1e-9}).x
"""
TRAINED = """
params = np.array([minimum(mlp((30, 5, 2)), k) for k in range(2)])
w, occupation = params[0], np.array([0.7, 0.3])
"""
FLAX = """
import jax
from flax import nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(30, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(jax.numpy.tanh(self.first(x)))


network = Net(nnx.Rngs(0))
w_a, w_b = minimum(from_nnx(network), 0), minimum(from_nnx(network), 1)
w = w_a
"""
WINE = """
from jaxland import mlp

model = mlp((13, 3, 3))
params = model.params
"""
LATENTS = """
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
z = rng.normal(size=(300, 2))
x, y = z[:, 0], z[:, 0] + rng.normal(size=300)
latents = pd.DataFrame(z + 0.3 * rng.normal(size=z.shape), columns=["z1", "z2"])
factors = pd.DataFrame({"size": z[:, 0], "kind": np.where(z[:, 1] > 0, "round", "square")})
"""
SIGNALS = """
import jax.numpy as jnp
import numpy as np

from jaxland import mlp

x = np.random.default_rng(0).normal(size=(12, 100))
model = mlp((100, 4, 2))


def f(v):
    return jnp.tanh(v @ jnp.ones((100, 3)))


relevant = np.broadcast_to(np.arange(100) < 50, x.shape)
parts = np.stack([relevant, ~relevant])
"""
READERS = {
    "README.md": ("", ""),
    "tutorial.md": ("", ""),
    "landscape.md": ("", ""),
    "search.md": ("", ""),
    "hessian.md": (NETWORK + TRAINED, "x, y, xt, yt, w, params, occupation"),
    "interchange.md": (BOARD, "problem"),
    "large_networks.md": (NETWORK + FLAX, "x, y, xt, yt, network, w_a, w_b, w"),
    "models.md": (WINE, "model, params"),
    "mutual_information.md": (LATENTS, "x, y, latents, factors"),
    "thermodynamics.md": (BOARD, "split, x, landscape"),
    "trim.md": (SIGNALS, "x, model, f, relevant, parts"),
    "why.md": (BOARD, "landscape, split"),
}
