"""What has a beta-VAE learnt of dark-matter halos? Read its latents with mutual information.

Spherically averaged density profiles in the form of Navarro, Frenk & White (1997) with an inner slope, an outskirts
term and noise,

    log10 rho(r) = log10 rho_0 - gamma log10(r / r_s) - (3 - gamma) log10(1 + r / r_s) + outskirts + noise,

with rho_0 such that the density at a fifth of the virial radius follows the mass. Four known factors are behind it:
mass, concentration (r_vir / r_s), inner slope gamma and accretion rate (steepens the outskirts). A small beta-VAE
(Higgins et al. 2017) compresses each 32-point profile into five latents without being told any of this. Afterwards:
which latent carries which factor, in nats and with errors, and how disentangled are they? (Three latents are used.
One is the mass and nothing else; the other two share slope and accretion, and the concentration, which bends a
profile much as the slope does, hides in both.)

    python examples/latent_vae.py            writes runs/latent_vae/
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from flax import nnx

from jaxland import information
from jaxland.report import figures
from jaxland.report import information as drawing

RADII = np.geomspace(0.02, 3.0, 32)  # in units of the virial radius
LATENTS = 5


def draw_profiles(n: int, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Profiles [n, 32] and the factors behind them."""
    rng = np.random.default_rng(seed)
    log_mass = rng.uniform(11.0, 14.0, n)
    log_concentration = rng.normal(0.9, 0.15, n)
    slope = rng.uniform(0.2, 1.8, n)
    accretion = rng.normal(0.0, 1.0, n)
    x = RADII * 10.0 ** log_concentration[:, None]
    shape = -slope[:, None] * np.log10(x) - (3.0 - slope[:, None]) * np.log10(1.0 + x)
    shape = shape - np.array([np.interp(0.2, RADII, row) for row in shape])[:, None]
    outskirts = -0.35 * accretion[:, None] / (1.0 + np.exp(-20.0 * np.log10(RADII / 1.0)))
    profile = 0.5 * (log_mass[:, None] - 12.5) + shape + outskirts + rng.normal(0.0, 0.03, (n, len(RADII)))
    factors = {"mass": log_mass, "concentration": log_concentration, "inner slope": slope, "accretion": accretion}
    return profile.astype(np.float32), pd.DataFrame(factors)


class VAE(nnx.Module):
    """Dense encoder and decoder of a beta-VAE."""

    def __init__(self, inputs: int, latents: int, width: int, rngs: nnx.Rngs) -> None:
        self.into = nnx.Linear(inputs, width, rngs=rngs)
        self.hidden = nnx.Linear(width, width, rngs=rngs)
        self.moments = nnx.Linear(width, 2 * latents, rngs=rngs)
        self.back = nnx.Linear(latents, width, rngs=rngs)
        self.again = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(width, inputs, rngs=rngs)

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and log variance of the latents."""
        hidden = nnx.gelu(self.hidden(nnx.gelu(self.into(x))))
        return tuple(jnp.split(self.moments(hidden), 2, axis=-1))

    def decode(self, z: jax.Array) -> jax.Array:
        """Input of latents."""
        return self.out(nnx.gelu(self.again(nnx.gelu(self.back(z)))))


def train(
    x: np.ndarray,
    *,
    beta: float,
    steps: int,
    latents: int = LATENTS,
    width: int = 96,
    sigma: float = 0.1,
    seed: int = 0,
) -> VAE:
    """Minimise squared error / (2 sigma^2) + beta KL(q(z|x) || N(0, 1)) on x [n, inputs]."""
    model = VAE(x.shape[1], latents, width, nnx.Rngs(seed))
    optimizer = nnx.Optimizer(model, optax.adam(optax.cosine_decay_schedule(2e-3, steps)), wrt=nnx.Param)

    def loss(model: VAE, batch: jax.Array, key: jax.Array) -> jax.Array:
        mean, log_var = model.encode(batch)
        z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
        error = jnp.sum((model.decode(z) - batch) ** 2, -1) / (2 * sigma**2)
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(log_var) - log_var - 1.0, -1)
        return jnp.mean(error + beta * kl)

    @nnx.jit
    def update(model, optimizer, data, key):
        pick, noise = jax.random.split(key)
        batch = data[jax.random.randint(pick, (256,), 0, len(data))]
        value, gradient = nnx.value_and_grad(loss)(model, batch, noise)
        optimizer.update(model, gradient)
        return value

    data = jnp.asarray(x)
    for step, key in enumerate(jax.random.split(jax.random.key(seed), steps)):
        value = update(model, optimizer, data, key)
        if step % 1000 == 999:
            print(f"step {step + 1}: loss {float(value):.1f}", flush=True)
    return model


def picture(profile: np.ndarray, model: VAE, factors: pd.DataFrame, table: information.InformationMatrix):
    """Profiles and their reconstruction beside the heat map's strongest relation: what each latent does."""
    figure, axes = figures.panels(11.0, 3.4, ncols=3)
    mean, _ = model.encode(jnp.asarray(profile))
    back = np.asarray(model.decode(mean))
    for i, colour in enumerate(figures.PALETTE[:5]):
        axes[0].plot(RADII, profile[i], ".", color=colour, ms=3)
        axes[0].plot(RADII, back[i], "-", color=colour, lw=1)
    axes[0].set_title("profiles and reconstructions")
    z = np.asarray(mean)
    best = np.unravel_index(np.nanargmax(table.mean), table.mean.shape)
    take = slice(0, 2000)
    axes[1].plot(factors.iloc[take, best[1]], z[take, best[0]], ".", ms=2, color=figures.PALETTE[1], alpha=0.6)
    axes[1].set_xlabel(table.columns[best[1]])
    axes[1].set_ylabel(table.rows[best[0]])
    axes[1].set_title(f"I = {table.mean[best]:.2f} ± {table.std[best]:.2f} nats")
    middle = np.median(z, 0)
    for value in np.linspace(-2, 2, 7):
        point = middle.copy()
        point[best[0]] = value
        shade = 0.15 + 0.7 * (value + 2) / 4
        axes[2].plot(RADII, np.asarray(model.decode(jnp.asarray(point))), color=(0.12, 0.37, 0.6, shade), lw=1.4)
    axes[2].set_title(f"profile as {table.rows[best[0]]} moves from -2 to 2")
    for axis in (axes[0], axes[2]):
        axis.set_xscale("log")
        axis.set_xlabel("radius / virial radius")
        axis.set_ylabel("log density, standardised")
    return figure


def main() -> None:
    """Draw, train, read, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/latent_vae"))
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--beta", type=float, default=4.0)
    parser.add_argument("--bootstraps", type=int, default=30)
    parser.add_argument("--small", action="store_true", help="few samples, a short training, few bootstraps")
    args = parser.parse_args()
    if args.small:
        args.samples, args.steps, args.bootstraps = 400, 200, 4
    started = time.process_time()
    profiles, _ = draw_profiles(20_000, seed=1)
    shift, scale = profiles.mean(0), profiles.std(0)
    model = train((profiles - shift) / scale, beta=args.beta, steps=args.steps)
    test, factors = draw_profiles(args.samples, seed=2)
    test = (test - shift) / scale
    mean, log_var = model.encode(jnp.asarray(test))
    noise = np.exp(0.5 * np.mean(log_var, 0)).round(2)
    print(f"trained in {time.process_time() - started:.0f} CPU s; posterior width of each latent {noise}")

    started = time.process_time()
    latents = pd.DataFrame(np.asarray(mean), columns=[f"z{i}" for i in range(LATENTS)])
    summary = information.disentanglement(latents, factors, bootstraps=args.bootstraps)
    pairs = LATENTS * factors.shape[1] + LATENTS * (LATENTS - 1) // 2
    print(f"{pairs} pairs in {time.process_time() - started:.0f} CPU s")
    print(summary.association.frame().round(3))
    for k, factor in enumerate(factors):
        told = f"{summary.best[k]}, {summary.top[k]:.3f} ± {summary.top_std[k]:.3f} nats"
        print(f"{factor}: {told}, MIG {drawing.mig_text(summary.mig[k], summary.mig_std[k])}")
    print(f"two latents share {summary.shared:.4f} ± {summary.shared_std:.4f} nats on average")
    figures.save(drawing.heat_map(summary.association), args.out / "association")
    figures.save(drawing.disentanglement_figure(summary), args.out / "disentanglement")
    figures.save(picture(test, model, factors, summary.association), args.out / "profiles")
    latents.to_csv(args.out / "latents.csv", index=False)
    factors.to_csv(args.out / "factors.csv", index=False)
    page = drawing.information_report(
        summary.association,
        args.out / "report.html",
        between=summary.between,
        summary=summary,
        title="What a beta-VAE has learnt of halo profiles",
        command="python examples/latent_vae.py",
    )
    print(f"report: {page}")
    carried = [k for k in range(factors.shape[1]) if np.isfinite(summary.mig[k])]
    lost = [name for k, name in enumerate(factors) if k not in carried]
    told = ", ".join(f"{factors.columns[k]} by {summary.best[k]} (MIG {summary.mig[k]:.2f})" for k in carried)
    print(f"finding: carried are {told or 'no factors'}" + (f"; by no latent: {', '.join(lost)}" if lost else ""))


if __name__ == "__main__":
    main()
