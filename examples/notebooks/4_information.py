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
# # Which latent carries which factor
# Mutual information with Gaussian mixtures, in nats, with errors.
#
# In Colab: `%pip install -q "jaxland[notebook]"`.

# %%
import numpy as np
import pandas as pd

from jaxland import information
from jaxland.report.information import heat_map

# %% [markdown]
# A pair whose information is known: correlation 0.6 has -ln(1 - 0.36) / 2 = 0.223 nats.

# %%
rng = np.random.default_rng(0)
x, noise = rng.normal(size=(2, 1500))
pair = information.mutual_information(x, 0.6 * x + 0.8 * noise, bootstraps=10)
pair

# %% [markdown]
# Latents that carry the factors of two things and mix a third.

# %%
factors = pd.DataFrame({"size": rng.normal(size=1000), "hue": rng.uniform(-1, 1, 1000)})
latents = pd.DataFrame(
    {
        "z1": factors["size"] + 0.3 * rng.normal(size=1000),
        "z2": np.sin(2 * factors["hue"]) + 0.2 * rng.normal(size=1000),
        "z3": rng.normal(size=1000),
    }
)
table = information.matrix(latents, factors, bootstraps=5, null=1)
table

# %%
print(table.frame().round(3))
assert abs(pair.mean - 0.223) < 0.05 and table.frame().loc["z1", "size"] > table.frame().loc["z2", "size"]
heat_map(table)
