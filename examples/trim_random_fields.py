"""Which scales does a network read? Gaussian random fields whose target sits in known rings of the power spectrum.

Maps of 64 x 64 pixels with spectrum P(k) ~ k^-2, as of large-scale structure, whose power between wave numbers 10 and
12 is multiplied by exp(a). A small convolutional network is trained to tell a. Attribution to rings of |k| finds the
annulus, although most of the power is elsewhere.

With P(k) exp(a w(k)) the best estimate of a sums w(k) |s|^2 / P(k) over all coefficients, so ring k with its N(k)
coefficients deserves a share N(k) w(k): that is drawn beside what the network does.

    python examples/trim_random_fields.py [--out runs/random_fields]
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxland import trim
from jaxland.models.model import Model
from jaxland.report import figures

SIZE = 64
ONE_ANNULUS = ((10, 12, 1.0),)  # from k, to k, weight of a
METHODS = ("integrated_gradients", "contextual_decomposition", "ablation")


def wave_numbers():
    """|k| in cycles per map of every rfft coefficient."""
    return np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None]) * SIZE


def weights(k, annuli):
    """w(k): how the logarithm of the power follows a."""
    return sum(weight * ((k >= low) & (k <= high)) for low, high, weight in annuli)


@partial(jax.jit, static_argnums=(1, 2))
def maps(key, n, annuli=ONE_ANNULUS):
    """Maps [n, 64, 64, 1] of unit variance and the annulus amplitudes a [n]."""
    k = wave_numbers()
    noise, amplitude = jax.random.split(key)
    a = jax.random.uniform(amplitude, (n,), minval=-1, maxval=1)
    spectrum = np.where(k > 0, np.maximum(k, 1) ** -2.0, 0)[None] * jnp.exp(a[:, None, None] * weights(k, annuli))
    white = jnp.fft.rfft2(jax.random.normal(noise, (n, SIZE, SIZE)))
    x = jnp.fft.irfft2(white * jnp.sqrt(spectrum), s=(SIZE, SIZE))
    return (x / 0.06)[..., None], a


def network(key):
    """Convolution 9 x 9 to 12 channels, ReLU, convolution 3 x 3, ReLU, mean over the map, dense."""
    keys = jax.random.split(key, 4)
    shapes = {"a": (9, 9, 1, 12), "b": (3, 3, 12, 16), "c": (16, 16), "d": (16, 1)}
    params = {
        n: jax.random.normal(k, s) * np.sqrt(2 / np.prod(s[:-1])) for k, (n, s) in zip(keys, shapes.items())
    } | {"bias_a": jnp.zeros(12), "bias_b": jnp.zeros(16), "bias_c": jnp.zeros(16), "bias_d": jnp.zeros(1)}

    def apply(p, x):
        dims = ("NHWC", "HWIO", "NHWC")
        for n, stride in (("a", 2), ("b", 2)):
            x = jax.lax.conv_general_dilated(x, p[n], (stride, stride), "SAME", dimension_numbers=dims)
            x = jax.nn.relu(x + p["bias_" + n])
        x = jax.nn.relu(x.mean((1, 2)) @ p["c"] + p["bias_c"])
        return x @ p["d"] + p["bias_d"]

    return Model(apply, params, name="convolutional network")


def train(model, steps=1200, batch=48, annuli=ONE_ANNULUS, seed=0):
    """Adam on fresh maps."""
    optimiser = optax.adam(optax.cosine_decay_schedule(4e-3, steps))

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, key):
        x, a = maps(key, batch, annuli)
        grads = jax.grad(lambda p: jnp.mean((model.apply(p, x)[:, 0] - a) ** 2))(params)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params, state = jax.tree.map(jnp.copy, model.params), optimiser.init(model.params)
    for key in jax.random.split(jax.random.key(seed + 1), steps):
        params, state = step(params, state, key)
    return Model(model.apply, params, name=model.name)


@dataclass(frozen=True)
class Study:
    """What a network reads, ring by ring.

    Attributes:
        annuli: where the target is written; r2: of the network on 256 new maps.
        best: R^2 there of a linear fit to the logarithms of the rings' power, made on 2,000 other maps.
        exchanged: R^2 of the network on the same maps with one annulus after another taken from other maps.
        curves: mean |attribution| by method [33]; ideal: N(k) w(k) [33]; power: of the maps [33].
        following: correlation over maps of the score of the written rings with a, by method.
    """

    annuli: tuple
    r2: float
    best: float
    exchanged: list
    curves: dict
    ideal: np.ndarray
    power: np.ndarray
    following: dict

    @property
    def written(self):
        """Whether a ring carries the target [33]."""
        ring = np.arange(len(self.ideal))
        return np.any([(ring >= low) & (ring <= high) for low, high, _ in self.annuli], axis=0)


def explained(predicted, a):
    """R^2."""
    return float(1 - np.var(np.asarray(predicted) - a) / np.var(a))


def exchange(x, low, high):
    """The maps with the coefficients of an annulus taken from their neighbours."""
    k, s = wave_numbers()[..., None], np.fft.rfft2(x, axes=(1, 2))
    mixed = np.where((k >= low) & (k <= high), np.roll(s, 1, axis=0), s)
    return np.fft.irfft2(mixed, s=(SIZE, SIZE), axes=(1, 2)).astype(x.dtype)


def best_linear(seed, annuli, rings, x, a):
    """R^2 of least squares on the logarithms of every ring's mean power."""

    def powers(drawn):
        s = np.abs(np.fft.rfft2(drawn[..., 0], axes=(1, 2))).reshape(len(drawn), -1) ** 2
        sums = s @ np.eye(rings.max() + 1)[rings.ravel()][:, 1:]
        return np.column_stack([np.log(sums), np.ones(len(drawn))])

    known, target = (np.asarray(part) for part in maps(jax.random.key(seed + 3), 2000, annuli))
    return explained(powers(x) @ np.linalg.lstsq(powers(known), target)[0], a)


def study(steps=1200, annuli=ONE_ANNULUS, seed=0):
    """Train, attribute by three methods."""
    model = train(network(jax.random.key(seed)), steps, annuli=annuli, seed=seed)
    x, a = (np.asarray(part) for part in maps(jax.random.key(seed + 2), 256, annuli))
    rings = np.minimum(wave_numbers().astype(int), SIZE // 2)
    labels = [str(k) for k in range(SIZE // 2 + 1)]
    twice = np.where((np.arange(SIZE // 2 + 1) % (SIZE // 2)) == 0, 1, 2)  # coefficients that stand for two
    ideal = np.bincount(rings.ravel(), (twice * weights(wave_numbers(), annuli)).ravel())
    transform, curves, following = trim.rfft((SIZE, SIZE, 1), axes=(0, 1)), {}, {}
    for method in METHODS:
        r = trim.attribute(
            model, x[:64], transform=transform, groups=rings[..., None], labels=labels, method=method, warn=False
        )
        curves[method] = r.importance()
        following[method] = np.corrcoef(r.scores[:, ideal > 0].sum(1), a[:64])[0, 1]
    return Study(
        annuli=annuli,
        r2=explained(model(x)[:, 0], a),
        best=best_linear(seed, annuli, rings, x, a),
        exchanged=[explained(model(exchange(x, low, high))[:, 0], a) for low, high, _ in annuli],
        curves=curves,
        ideal=ideal,
        power=trim.power(r),
        following=following,
    )


def picture(found):
    """Attribution by method beside the power spectrum."""
    figure, (top, below) = figures.panels(7.5, 5.5, nrows=2, sharex=True)
    for axis in (top, below):
        for low, high, _ in found.annuli:
            axis.axvspan(low - 0.5, high + 0.5, color="#f2e3c6", lw=0)
    top.plot(found.ideal / found.ideal.max(), "k--", lw=1, label="best estimate")
    for colour, (method, curve) in zip(figures.PALETTE, found.curves.items()):
        top.plot(curve / curve.max(), color=colour, lw=1.6, label=method.replace("_", " "))
    top.set_ylabel("mean |attribution|, maximum 1")
    top.legend(frameon=False)
    top.set_title("what the network reads (shaded: where the target is written)", loc="left")
    power = found.power
    below.plot(np.arange(1, len(power)), power[1:] / power.sum(), color=figures.PALETTE[3], lw=1.6)
    below.set_yscale("log")
    below.set_ylabel("share of the power")
    below.set_xlabel("wave number k (cycles per map)")
    below.set_title("what is in the maps", loc="left")
    return figure


def main():
    """Train, attribute by three methods, print where the attribution peaks, draw it beside the power spectrum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/random_fields"))
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--small", action="store_true", help="a short training")
    args = parser.parse_args()
    found = study(20 if args.small else args.steps)
    print(
        f"R^2 on 256 new maps: {found.r2:.3f}; without the annulus: {found.exchanged[0]:.3f}; best: {found.best:.3f}"
    )
    for method, size in found.curves.items():
        inside = size[found.written].sum() / size.sum()
        print(
            f"{method:26s} peak at k = {int(size.argmax())}, {inside:.0%} of the attribution in the annulus, "
            f"correlation of its score with a: {found.following[method]:.2f}"
        )
    held = found.power[found.written].sum() / found.power.sum()
    inside = sum(bool(found.written[int(size.argmax())]) for size in found.curves.values())
    print(f"share of the power in the annulus: {held:.1%}")
    print(
        f"finding: {inside} of {len(found.curves)} methods peak inside the annulus, where the target is written, "
        f"although it holds {held:.1%} of the power"
    )
    print("written:", *figures.save(picture(found), args.out / "annulus", kinds=("png",)))


if __name__ == "__main__":
    main()
