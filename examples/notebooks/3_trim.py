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
# # Which frequencies drive a decision
# Attribution in a transformed space, and the evidence that it is right.
#
# In Colab: `%pip install -q "jaxland[notebook]"`.

# %%
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxland import mlp, trim
from jaxland.report.trim import curves, profile

# %% [markdown]
# Signals of 64 samples; the class is whether the sixth frequency is strong.

# %%
rng = np.random.default_rng(0)
t = np.arange(64) / 64
label = rng.integers(0, 2, 600)
waves = np.sin(2 * np.pi * (6 * t + rng.random((600, 1)))) * (0.4 + label[:, None])
signals = (waves + rng.normal(size=(600, 64))).astype(np.float32)

# %%
model = mlp((64, 16, 2), "tanh")
optimiser = optax.adam(3e-3)


@jax.jit
def train(params):
    def loss(p):
        return optax.softmax_cross_entropy_with_integer_labels(model.apply(p, jnp.asarray(signals)), label).mean()

    def step(_, carry):
        p, state = carry
        updates, state = optimiser.update(jax.grad(loss)(p), state)
        return optax.apply_updates(p, updates), state

    return jax.lax.fori_loop(0, 800, step, (params, optimiser.init(params)))[0]


params = train(model.params)
print("accuracy", float((model(signals, params).argmax(1) == label).mean()))

# %%
result = trim.attribute(model, signals[:100], params=params, transform=trim.rfft(64), target=1)
result

# %%
profile(result, spectrum=trim.power(result))

# %% [markdown]
# Is it true? Ask the model: switch the players off, most important first.

# %%
print(result.summary().head(3))
assert result.summary()["player"][0] == "k=6"
curves(trim.deletion(result), trim.insertion(result))
