# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Large networks
# A path between two trained convolutional networks without a barrier, and the curvature at one of them.
#
# In Colab: `%pip install -q "jaxland[sklearn,notebook]"`.

# %%
import jax
import numpy as np
import optax
from flax import nnx

from jaxland import Problem, from_nnx, paths, progress
from jaxland.data import load
from jaxland.hessian.modes import extreme_modes
from jaxland.report.paths import path_figure

# %%
split = load("digits").split(0.3, seed=0)
x, y = split.train.x.astype(np.float32) / 16, split.train.y


class Net(nnx.Module):
    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.first, self.last = nnx.Linear(x.shape[1], 48, rngs=rngs), nnx.Linear(48, 10, rngs=rngs)

    def __call__(self, batch):
        return self.last(jax.nn.relu(self.first(batch)))


# %% [markdown]
# Two trainings from different seeds.


# %%
def trained(seed):
    model = from_nnx(Net(seed))
    problem = Problem.from_model(model, x, y, l2=1e-4, chunk=500)
    optimiser = optax.adam(5e-3)

    @jax.jit
    def train(w):
        def step(_, carry):
            w, state = carry
            updates, state = optimiser.update(jax.grad(problem.energy_of)(w, problem.data), state)
            return optax.apply_updates(w, updates), state

        return jax.lax.fori_loop(0, 400, step, (w, optimiser.init(w)))[0]

    return problem, train(problem.w)


problem, first = trained(0)
_, second = trained(1)
print("losses", float(problem.energy(first)), float(problem.energy(second)))

# %%
settings = paths.PathSettings(cycles=paths.cycles(40), batch=200)
found = paths.minimum_energy_path(problem, first, second, settings, progress=progress.bar("path"))
found

# %%
path_figure(found)

# %% [markdown]
# The largest eigenvalues of the Hessian, from products alone.

# %%
modes = extreme_modes(problem.at(first), highest=3, lowest=0, max_products=120)
print(found.barriers())
assert found.profile.barrier() < found.straight.barrier()
modes
