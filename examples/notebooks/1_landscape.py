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
# # The landscape of a loss
# Which solutions does a network have, how are they joined, and which weights do all good ones share?
#
# In Colab: `%pip install -q "jaxland[sklearn,notebook]"` keeps the JAX that is there, if it is 0.10 or newer.

# %%
from jaxland import Problem, landscape, mlp, progress
from jaxland.data import load
from jaxland.report.disconnectivity import disconnectivity_graph

# %% [markdown]
# A table, split and scaled. Every object shows itself.

# %%
split = load("checkerboard", n=400).split(0.3, seed=0, scale="standardise")
split.train

# %% [markdown]
# Landscapes need float64: that is one argument, and nothing else in the session changes.

# %%
problem = Problem.from_model(mlp((2, 4, 2)), split.train.x, split.train.y, l2=1e-3, dtype="float64")
problem

# %% [markdown]
# The search. Interrupt it whenever you like: what was found is returned.

# %%
found = landscape.explore(problem, minima=25, seed=0, progress=progress.bar("explore"))
found

# %%
disconnectivity_graph(found)

# %%
shared = landscape.conserved_weights(found.connected(), test=split.test)
shared

# %%
scores = landscape.values_per_minimum(found, split.test)
print(found.describe())
assert found.n_minima >= 2 and found.n_ts >= 1
scores
