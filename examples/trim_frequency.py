"""The simulation of the TRIM paper (Singh et al. 2020): does an attribution find the frequency that matters?

Signals of length 100; the label says whether |X_12|, the amplitude at frequency 12, is above its median. A ReLU
network with 100 hidden units and one output, the logit, learns it, and every method attributes the logit to the 51
frequencies, against the zero signal. Error: the share of 500 test inputs whose largest (signed) attribution is not at
frequency 12; that is the scoring fixed in advance. Beside it stand the alternatives: signed towards the predicted
class, by |attribution| (which also asks for the right answer where there is next to nothing at frequency 12), and
signed for inputs with much of it only; whether mean |attribution| over inputs ranks frequency 12 first; and, for the
inputs counted as errors (signed), |X_12| relative to its median and how often the network itself says so: taking the
other frequency out moves its logit more than taking 12 out. Expected gradients compare with typical signals instead
of the zero signal, so half of their scores at frequency 12 are rightly negative and only the alternatives are
meaningful.

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


METHODS = {
    "contextual_decomposition": {},
    "contextual_decomposition (acd)": {"mode": "acd"},
    "deeplift": {},
    "expected_gradients": {},
    "integrated_gradients": {},
    "input_times_gradient": {},
    "ablation": {},
    "shapley_sampling": {"permutations": 10},
}


def errors(scores, logit):
    """Per cent of inputs whose first frequency is wrong, by each scoring of signed scores [n, 51]."""
    towards, above = scores * np.sign(logit)[:, None], logit > 0
    wrong = lambda a: 100 * float((a.argmax(1) != FREQUENCY).mean())  # noqa: E731
    return {
        "signed": wrong(scores),
        "towards prediction": wrong(towards),
        "by |a|": wrong(np.abs(scores)),
        "signed, logit > 0": wrong(scores[above]) if above.any() else float("nan"),
        "12 first by mean |a|": int(np.abs(scores).mean(0).argmax()) == FREQUENCY,
    }


def measure(seed, uniform=False, n=50_000, steps=2000):
    """One seed: a row for each method with its errors, and the network's accuracy."""
    x, y = signals(seed, n, uniform)
    cut = int(0.9 * n)
    model = train(x[:cut], y[:cut], seed, steps)
    accuracy = float(((np.asarray(model(x[cut:]))[:, 0] > 0) == y[cut:]).mean())
    test = x[cut : cut + 500]
    logit, t = np.asarray(model(test))[:, 0], trim.rfft(LENGTH)
    scores = {}
    for name, options in METHODS.items():
        method = name.split()[0]
        extra = {"background": x[:512]} if method == "expected_gradients" else {}
        scores[name] = trim.attribute(model, test, transform=t, method=method, warn=False, **options, **extra).scores
    power = np.abs(np.fft.rfft(x[:cut])[:, FREQUENCY])
    amplitude = np.abs(np.fft.rfft(test)[:, FREQUENCY]) / np.median(power)
    rows = [
        {"method": name, "seed": seed, "accuracy": accuracy}
        | errors(found, logit)
        | why_wrong(found, scores["ablation"], amplitude)
        for name, found in scores.items()
    ]
    return pd.DataFrame(rows)


def why_wrong(scores, ablation, amplitude):
    """Of the inputs with another frequency first: the amplitude at 12, and whether the network itself says so.

    It says so where taking the other frequency out moves its logit more than taking 12 out.
    """
    first = scores.argmax(1)
    wrong = np.flatnonzero(first != FREQUENCY)
    more = ablation[wrong, first[wrong]] > ablation[wrong, FREQUENCY]
    return {"wrong": len(wrong), "amplitude where wrong": amplitude[wrong].sum(), "network agrees": int(more.sum())}


def table(frame):
    """Means over seeds of the errors in per cent, beside the published ones."""
    by = frame.groupby("method", sort=False)
    out = by[["signed", "towards prediction", "by |a|", "signed, logit > 0"]].mean()
    out.insert(0, "published", [PUBLISHED.get(name.split()[0]) for name in out.index])
    out.insert(2, "worst seed", by["signed"].max())
    out["12 first by mean |a|"] = by["12 first by mean |a|"].all()
    sums = by[["wrong", "amplitude where wrong", "network agrees"]].sum()
    out["|X_12| where wrong"] = sums["amplitude where wrong"] / sums["wrong"]
    out["network agrees %"] = 100 * sums["network agrees"] / sums["wrong"]
    out["signed, network disagrees"] = out["signed"] * (1 - out["network agrees %"].fillna(0) / 100)
    return out


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
        frame = pd.concat([measure(seed, uniform, **size) for seed in range(seeds)])
        kind = "uniform spectra" if uniform else "white noise"
        print(
            f"\n{kind}: accuracy {frame['accuracy'].mean():.3f}, {seeds} seeds, at most 500 inputs each, errors in %"
        )
        found = table(frame)
        print(found.to_string(float_format=lambda v: f"{v:.2f}", na_rep="-"))
        best, least = found["signed"].idxmin(), found["signed"].min()
        first = int(found["12 first by mean |a|"].sum())
        print(
            f"finding: {best} misses frequency {FREQUENCY} least ({least:.1f} % of the inputs); {first} of "
            f"{len(found)} methods rank it first by mean |a|"
        )


if __name__ == "__main__":
    main()
