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
# # What a prediction rests on
# Influence of training rows, uncertainty under resampling, and where the model extrapolates.
#
# In Colab: `%pip install -q "jaxland[sklearn,notebook]"`.

# %%
import numpy as np

from jaxland import Problem, hessian, landscape, mlp
from jaxland.data import load
from jaxland.report import hessian as figures

# %%
split = load("breast_cancer").split(0.3, seed=0, scale="standardise")
problem = Problem.from_model(mlp((30, 3, 2)), split.train.x, split.train.y, l2=1e-2, dtype="float64")
trained = landscape.explore(problem, minima=1, starts=8, rounds=0, seed=0)
problem = problem.at(trained.best)

# %% [markdown]
# One curvature answers every question.

# %%
points = split.test.x[:40], split.test.y[:40]
explained = hessian.explain(problem, points)
explained

# %%
figures.uncertainty_figure(explained.uncertainty)

# %%
figures.density_figure(explained.spectrum)

# %%
hardest = int(np.argmax(explained.uncertainty.std))
print("least certain: test row", hardest, "which rests on training rows", explained.influence.most_positive[hardest])
assert explained.curvature.gradient_norm < 1e-6
figures.influence_figure(explained.influence, point=hardest)
