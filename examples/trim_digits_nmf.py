"""Digits in parts: which parts of an NMF does a classifier need? Knock-out accuracy per attribution method.

scikit-learn's 8 x 8 digits, 24 non-negative parts, a dense ReLU network. Every method attributes the logit of the
true class to the parts, the residual of the reconstruction held fixed. Then the parts with the largest scores are
set to zero in each image, and the network is asked again. The lower the accuracy, the better the method found what
matters.

    python examples/trim_digits_nmf.py
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from sklearn.datasets import load_digits

from jaxland import trim
from jaxland.models import Model, mlp

COUNTS = (0, 1, 2, 4, 8)  # parts knocked out
METHODS = {
    "contextual_decomposition": {},
    "contextual_decomposition (acd)": {"mode": "acd"},
    "integrated_gradients": {},
    "expected_gradients": {},
    "deeplift": {},
    "input_times_gradient": {},
    "ablation": {},
    "kernel_shap": {"samples": 400},
    "shapley_sampling": {"permutations": 10},
    "saliency": {},
}


def train(x, y, steps=1500, seed=0):
    """Adam, one jitted scan."""
    model = mlp((64, 64, 32, 10), "relu", key=jax.random.key(seed), dtype=jnp.float32)
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @jax.jit
    def run(params, x, y):
        def step(carry, key):
            params, state = carry
            rows = jax.random.randint(key, (128,), 0, len(x))
            loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(model.apply(p, x[rows]), y[rows]).mean()  # noqa: E731
            updates, state = optimiser.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(jax.random.key(seed + 1), steps)
        return jax.lax.scan(step, (params, optimiser.init(params)), keys)[0][0]

    return Model(model.apply, run(model.params, x, y), model.init, model.sizes, model.activation)


def knocked(small=False, seed=0):
    """Train, decompose, attribute, knock out.

    Accuracies [methods, COUNTS] as a table with "random parts" last, the share of the images' power that the parts
    keep, and the parts [24, 64].
    """
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.data))
    x, y = (digits.data[order] / 16).astype(np.float32), digits.target[order]
    end = 1340 if small else len(x)
    train_x, test_x, train_y, test_y = x[:1300], x[1300:end], y[:1300], y[1300:end]
    model = train(jnp.asarray(train_x), jnp.asarray(train_y), steps=200 if small else 1500, seed=seed)
    parts = trim.nmf(train_x[:200] if small else train_x, 24)
    lost = test_x - np.asarray(parts.inverse(parts.forward(jnp.asarray(test_x))))
    rows = {}
    for name, options in METHODS.items():
        method = name.split()[0]
        extra = {"background": train_x[:200]} if method == "expected_gradients" else {}
        r = trim.attribute(
            model,
            test_x,
            transform=parts,
            method=method,
            target=test_y,
            residual="fixed",
            warn=False,
            **extra,
            **options,
        )
        table = trim.knock_out(r, test_y, counts=list(COUNTS), by="score")
        rows[name] = table["top"].to_numpy()
        random = table["random"].to_numpy()
    rows["random parts"] = random
    frame = pd.DataFrame(rows, index=list(COUNTS)).T
    shapes = np.asarray(parts.inverse(jnp.eye(24, dtype=jnp.float32)))
    return frame, 1 - float(np.mean(lost**2) / np.mean(test_x**2)), shapes


def main():
    """Print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a short training, 40 test images")
    frame, kept, _ = knocked(parser.parse_args().small)
    print(f"test accuracy {frame.iloc[0, 0]:.3f}; 24 parts keep {kept:.1%} of the images' power")
    print("accuracy after so many parts with the largest scores are set to zero:")
    print(frame.to_string(float_format=lambda v: f"{v:.3f}"))
    count = 4
    best = frame[count].idxmin()
    left, chance = frame.loc[best, count], frame.loc["random parts", count]
    print(
        f"finding: without the {count} parts that {best} scores highest the accuracy falls from "
        f"{frame.iloc[0, 0]:.0%} to {left:.0%}; without {count} random ones to {chance:.0%}"
    )


if __name__ == "__main__":
    main()
