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
# # From a table to an answer
# Fit, keep a model file that knows its columns, scaling and rows, and hand it to the other systems.
#
# In Colab: `%pip install -q "jaxland[sklearn,notebook]"`.

# %%
import tempfile
from pathlib import Path

import numpy as np

from jaxland import Problem, hessian, landscape, mlp, models, trim
from jaxland.data import Preparation, load
from jaxland.data.seen import TEST, TRAINING

# %%
data = load("wine")
split = data.split(0.3, seed=0, scale="standardise")
problem = Problem.from_model(mlp((13, 3, 3)), split.train.x, split.train.y, l2=1e-2, dtype="float64")
found = landscape.explore(problem, minima=5, seed=0)
found

# %% [markdown]
# The file holds the preparation: columns, order, coding, scaling, classes, and which rows trained the model.

# %%
preparation = Preparation.of_split(data, split)
path = Path(tempfile.mkdtemp()) / "wine.npz"
models.save(path, problem.model, problem.unravel(found.best), loss="cross_entropy", l2=1e-2, **preparation.facts())
model, facts = models.load(path)
preparation = Preparation.of_model(facts)
print(*preparation.describe(), sep="\n")

# %% [markdown]
# From here on a table in its own units is enough. From the shell: `jaxland hessian wine.npz wine --out runs/h`.

# %%
rows = preparation.of_dataset(load("wine"))
train, test = rows.part(TRAINING), rows.part(TEST)
rows

# %%
again = Problem.from_model(model, train.x, train.y, l2=facts["l2"], dtype="float64")
explained = hessian.explain(again, (test.x, test.y), modes=5)
explained

# %%
result = trim.attribute(
    model,
    test.x,
    baseline="mean",
    background=train.x,
    groups=preparation.groups(),
    labels=preparation.columns,
)
accuracy = float((np.asarray(model(test.x)).argmax(1) == test.y).mean())
print(f"accuracy on rows it has not seen {accuracy:.3f}; it leans most on {result.summary()['player'][0]}")
assert accuracy > 0.9 and explained.curvature.gradient_norm < 1e-6
result
