"""Pictures of a coloured shape in a coloured room, drawn from six independent factors, in the manner of 3D Shapes.

Floor, wall and object have one of ten hues from red to blue, an open arc of the circle, so that one latent can hold a
hue; the object has one of four shapes and eight sizes and stands at one of fifteen places (3D Shapes turns the camera
instead).
"""

from __future__ import annotations

import colorsys

import numpy as np
import pandas as pd

SIZE = 16
FACTORS = {"floor hue": 10, "wall hue": 10, "object hue": 10, "scale": 8, "shape": 4, "place": 15}
SHAPES = ("square", "disc", "diamond", "cross")
HUES = np.array([colorsys.hsv_to_rgb(0.07 * k, 1.0, 1.0) for k in range(10)])


def draw_factors(n: int, seed: int) -> pd.DataFrame:
    """Values 0..K-1 of every factor, independent and uniform [n, 6]."""
    rng = np.random.default_rng([seed, 0x5A])
    return pd.DataFrame({name: rng.integers(0, count, n) for name, count in FACTORS.items()})


def distance(x: np.ndarray, y: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """How far out of its shape of size 1 a point is, below 1 inside [n, SIZE, SIZE]."""
    across, along = np.abs(x), np.abs(y)
    arms = np.minimum(np.maximum(across, 3 * along), np.maximum(3 * across, along))
    kinds = [np.maximum(across, along), np.hypot(x, y) / 1.1, (across + along) / 1.35, arms / 1.1]
    return np.choose(shape[:, None, None], kinds)


def pictures(factors: pd.DataFrame) -> np.ndarray:
    """Pictures [n, SIZE, SIZE, 3] in [0, 1], edges smooth over a pixel."""
    column = lambda name: factors[name].to_numpy()  # noqa: E731
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    half = (2.0 + 0.4 * column("scale"))[:, None, None]
    middle = (5.0 + 6.0 * column("place") / 14)[:, None, None]
    far = distance((columns - middle) / half, (rows - SIZE / 2) / half, column("shape"))
    inside = 1 / (1 + np.exp(np.clip(4 * half * (far - 1), -30, 30)))[..., None]
    floor = (1 / (1 + np.exp(-4 * (rows - 0.6 * SIZE))))[None, :, :, None]
    paint = lambda name: HUES[column(name)][:, None, None]  # noqa: E731
    room = floor * paint("floor hue") + (1 - floor) * paint("wall hue")
    return (inside * paint("object hue") + (1 - inside) * room).astype(np.float32)
