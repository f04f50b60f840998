"""The simulation of the TRIM paper (Singh et al. 2020): does an attribution find the frequency that matters?

Signals of length 100; the label says whether |X_12|, the amplitude at frequency 12, is above its median. A ReLU
network with 100 hidden units and one output, the logit, learns it, and every method attributes the logit to the 51
frequencies, against the zero signal. Error: the share of 500 test inputs whose largest (signed) attribution is not at
frequency 12. Beside it stand the same with |attribution|, which also asks for the right answer where there is next to
nothing at frequency 12, and whether mean |attribution| over inputs ranks frequency 12 first. Expected gradients
compare with typical signals instead of the zero signal, so half of their scores at frequency 12 are rightly negative
and only |attribution| is meaningful.

    python examples/trim_frequency.py [--seeds 5] [--uniform]
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from jaxland import trim
from jaxland.models import Model, mlp

PUBLISHED = {"contextual_decomposition": 0.4, "deeplift": 3.6, "expected_gradients": 4.0, "integrated_gradients": 4.2}
LENGTH, FREQUENCY = 100, 12


def signals(seed, n, uniform):
    """White noise, or spectra drawn uniformly, with labels |X_12| > median."""
    rng = np.random.default_rng(seed)
    if uniform:
        parts = rng.uniform(-1, 1, size=(2, n, LENGTH // 2 + 1))
        x = np.fft.irfft((parts[0] + 1j * parts[1]) * np.sqrt(LENGTH), LENGTH)
    else:
        x = rng.normal(size=(n, LENGTH))
    power = np.abs(np.fft.rfft(x)[:, FREQUENCY])
    return x.astype(np.float32), (power > np.median(power)).astype(np.int32)


def train(x, y, seed, steps=2000, batch=256):
    """Adam with a cosine schedule, one jitted scan."""
    model = mlp((LENGTH, 100, 1), "relu", key=jax.random.key(seed), dtype=jnp.float32)
    optimiser = optax.adamw(optax.cosine_decay_schedule(3e-3, steps), weight_decay=1e-4)

    def loss(params, xs, ys):
        return optax.sigmoid_binary_cross_entropy(model.apply(params, xs)[:, 0], ys).mean()

    @jax.jit
    def run(params, x, y, key):
        def step(carry, key):
            params, state = carry
            rows = jax.random.randint(key, (batch,), 0, len(x))
            grads = jax.grad(loss)(params, x[rows], y[rows])
            updates, state = optimiser.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimiser.init(params)), jax.random.split(key, steps))[0][0]

    params = run(model.params, jnp.asarray(x), jnp.asarray(y), jax.random.key(seed + 1))
    return Model(model.apply, params, model.init, model.sizes, model.activation)


def measure(seed, uniform=False, n=50_000, steps=2000):
    """One seed: accuracy, and for each method the share of test inputs whose top frequency is wrong."""
    x, y = signals(seed, n, uniform)
    cut = int(0.9 * n)
    model = train(x[:cut], y[:cut], seed, steps)
    accuracy = float(((np.asarray(model(x[cut:]))[:, 0] > 0) == y[cut:]).mean())
    test, background = x[cut : cut + 500], x[:512]
    row = {"seed": seed, "accuracy": accuracy}
    t = trim.rfft(LENGTH)
    ranked = {}
    for method, options in {
        "contextual_decomposition (acd)": {"mode": "acd"},
        "contextual_decomposition (shapley)": {},
        "deeplift": {},
        "expected_gradients": {"background": background},
        "integrated_gradients": {},
        "input_times_gradient": {},
        "ablation": {},
        "shapley_sampling": {"permutations": 10},
    }.items():
        r = trim.attribute(model, test, transform=t, method=method.split()[0], warn=False, **options)
        row[method] = 100 * float((r.scores.argmax(1) != FREQUENCY).mean())
        row[method + " |a|"] = 100 * float((r.top(1)[:, 0] != FREQUENCY).mean())
        ranked[method] = int(r.importance().argmax()) == FREQUENCY
    return row, ranked


def table(seeds, uniform, **size):
    """Errors in per cent over seeds, beside the published ones."""
    rows, first = zip(*(measure(seed, uniform, **size) for seed in range(seeds)))
    frame = pd.DataFrame(rows)
    methods = list(first[0])
    out = pd.DataFrame(
        {
            "error %": frame[methods].mean(),
            "worst seed %": frame[methods].max(),
            "published %": pd.Series({m: PUBLISHED.get(m.split()[0]) for m in methods}),
            "error % by |a|": pd.Series({m: frame[m + " |a|"].mean() for m in methods}),
            "12 first by mean |a|": pd.Series({m: all(f[m] for f in first) for m in methods}),
        }
    )
    return frame["accuracy"].mean(), out


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--uniform", action="store_true", help="only the uniform variant")
    parser.add_argument("--small", action="store_true", help="one seed, few signals, a short training")
    args = parser.parse_args()
    size = {"n": 2000, "steps": 100} if args.small else {}
    seeds = 1 if args.small else args.seeds
    for uniform in (True,) if args.uniform else (False, True):
        accuracy, frame = table(seeds, uniform, **size)
        kind = "uniform spectra" if uniform else "white noise"
        print(f"\n{kind}: accuracy {accuracy:.3f}, {seeds} seeds, at most 500 inputs each")
        print(frame.to_string(float_format=lambda v: f"{v:.2f}", na_rep="-"))


if __name__ == "__main__":
    main()
