"""What several test modules share: small problems with known landscapes, and processes with forced devices."""

import os
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np

from jaxland import Problem, mlp
from jaxland.landscape import Landscape

XOR_X = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
XOR_Y = np.array([0, 1, 1, 0])
SADDLES = {(0.212487, 0.292988): -72.248940, (-0.822002, 0.624313): -40.664844}


def xor(hidden=2, lam=1e-2):
    return Problem.from_model(mlp((2, hidden, 2)), XOR_X, XOR_Y, l2=lam)


def same(a, b):
    np.testing.assert_array_equal(a.energies, b.energies)
    np.testing.assert_array_equal(a.coordinates, b.coordinates)
    np.testing.assert_array_equal(a.hits, b.hits)
    np.testing.assert_array_equal(a.ts_energies, b.ts_energies)
    np.testing.assert_array_equal(a.ts_coordinates, b.ts_coordinates)
    np.testing.assert_array_equal(a.ts_ends, b.ts_ends)


def muller_brown(w):
    x, y = w
    a = jnp.array([-200.0, -100.0, -170.0, 15.0])
    b, c, d = jnp.array([-1.0, -1, -6.5, 0.7]), jnp.array([0.0, 0, 11, 0.6]), jnp.array([-10.0, -10, -6.5, 0.7])
    dx, dy = x - jnp.array([1.0, 0, -0.5, -1]), y - jnp.array([0.0, 0.5, 1.5, 1])
    return jnp.sum(a * jnp.exp(b * dx**2 + c * dx * dy + d * dy**2))


def extreme(rng, shape):
    """Numbers of all magnitudes, subnormal ones and negative zeros included."""
    x = rng.normal(size=shape) * 10.0 ** rng.uniform(-320, 300, size=shape)
    return np.where(rng.random(shape) < 0.05, -0.0, x)


def landscape(seed=0, m=40, t=90, n=7, group=48):
    rng = np.random.default_rng(seed)
    divisors = np.array([d for d in range(1, group + 1) if group % d == 0])
    return Landscape.from_points(
        extreme(rng, m), rng.normal(size=(m, n)), extreme(rng, t), rng.integers(0, m, (t, 2)),
        log_products=extreme(rng, m), ts_log_products=extreme(rng, t), ts_coordinates=rng.normal(size=(t, n)),
        orbit_sizes=rng.choice(divisors, m).astype(float), ts_orbit_sizes=rng.choice(divisors, t).astype(float),
        settings={"group_order": group},
    )  # fmt: skip


# Forced devices on a busy machine of two cores may wait long for one another.
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=300"


def on_devices(code, count=4, timeout=170):
    """Run Python code in a process of its own with so many CPU devices; its standard output."""
    env = dict(os.environ, XLA_FLAGS=f"--xla_force_host_platform_device_count={count} {PATIENT}", JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
