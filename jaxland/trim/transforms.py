"""Transforms to attribute in: s = T(x), with an inverse (exact or best in the least-squares sense) and groups over s.

Every transform is a frozen dataclass and a pytree (its matrices are leaves, its shapes are not): it can be an
argument of a jitted function. ``forward`` and ``inverse`` take a leading batch axis. ``groups`` numbers the group of
every coefficient, -1 for none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError, DataError

Shape = tuple[int, ...]


def _shape(shape: int | Sequence[int], name: str) -> Shape:
    dims = (int(shape),) if np.ndim(shape) == 0 else tuple(int(d) for d in shape)  # type: ignore[arg-type, union-attr]
    if not dims or min(dims) < 1:
        raise ArgumentError(f"shape of {name} must be one or more positive sizes, got {shape!r}")
    return dims


def _axes(axes: int | Sequence[int] | None, shape: Shape, name: str) -> Shape:
    if axes is None:
        return tuple(range(len(shape)))
    given = (axes,) if isinstance(axes, int) else tuple(axes)
    wrapped = tuple(sorted(a + len(shape) if a < 0 else a for a in given))
    if not wrapped or len(set(wrapped)) < len(wrapped) or wrapped[0] < 0 or wrapped[-1] >= len(shape):
        raise ArgumentError(f"axes of {name} must be different axes of the input shape {shape}, got {axes!r}")
    return wrapped


@dataclass(frozen=True)
class Transform:
    """What every transform offers; subclass it, or use ``pair`` for two functions of your own."""

    @property
    def name(self) -> str:
        """What to call it in reports."""
        return type(self).__name__.lower()

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        raise NotImplementedError

    @property
    def coefficient_shape(self) -> Shape:
        """Shape of the coefficients of one input."""
        return self.input_shape

    @property
    def is_exact(self) -> bool:
        """Whether inverse(forward(x)) = x for every x."""
        return True

    @property
    def is_affine(self) -> bool:
        """Whether the inverse is affine: straight lines in s are straight lines in x."""
        return True

    @property
    def groups(self) -> np.ndarray:
        """Group of every coefficient, int [coefficient_shape]; each its own unless a transform says better."""
        return np.arange(math.prod(self.coefficient_shape)).reshape(self.coefficient_shape)

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Name of every group."""
        return tuple(str(k) for k in range(int(self.groups.max()) + 1))

    def forward(self, x: jax.Array) -> jax.Array:
        """x [n, *input_shape] to s [n, *coefficient_shape]."""
        raise NotImplementedError

    def inverse(self, s: jax.Array) -> jax.Array:
        """s [n, *coefficient_shape] to x [n, *input_shape]."""
        raise NotImplementedError


def _register(*data: str, **static: Any) -> Callable[[type], type]:
    def wrap(cls: type) -> type:
        names = [f for f in cls.__dataclass_fields__ if f not in data]  # type: ignore[attr-defined]
        return jax.tree_util.register_dataclass(cls, data_fields=list(data), meta_fields=names)

    return wrap


@_register()
@dataclass(frozen=True)
class Identity(Transform):
    """The inputs themselves."""

    shape: Shape

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.shape

    def forward(self, x: jax.Array) -> jax.Array:
        """x."""
        return x

    def inverse(self, s: jax.Array) -> jax.Array:
        """s."""
        return s


@_register()
@dataclass(frozen=True)
class RFFT(Transform):
    """Discrete Fourier transform of real inputs along ``axes``, one-sided along the last of them.

    The inverse takes the missing half to be the complex conjugate: any coefficients give a real x, and the pair
    +k, -k is one player. Groups: every frequency in one dimension; in more, ``bands`` rings of equal width in
    |frequency| / maximum. Other axes (channels) share the groups.
    """

    shape: Shape
    axes: Shape
    bands: int | None = None

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.shape

    @property
    def coefficient_shape(self) -> Shape:
        """Half the frequencies along the last axis."""
        return tuple(d // 2 + 1 if a == self.axes[-1] else d for a, d in enumerate(self.shape))

    @property
    def radius(self) -> np.ndarray:
        """|frequency| of every coefficient, in units of the largest."""
        total = np.zeros(self.coefficient_shape)
        for a in self.axes:
            n = self.shape[a]
            f = np.fft.rfftfreq(n) if a == self.axes[-1] else np.fft.fftfreq(n)
            total = total + f.reshape([-1 if b == a else 1 for b in range(len(self.shape))]) ** 2
        radius = np.sqrt(total)
        return radius / max(radius.max(), 1e-300)

    @property
    def groups(self) -> np.ndarray:
        """Frequencies, or rings."""
        if len(self.axes) == 1 and self.bands is None:
            n = self.coefficient_shape[self.axes[0]]
            line = np.arange(n).reshape([-1 if b == self.axes[0] else 1 for b in range(len(self.shape))])
            return np.broadcast_to(line, self.coefficient_shape)
        bands = self._bands
        return np.minimum((self.radius * bands).astype(int), bands - 1)

    @property
    def _bands(self) -> int:
        return self.bands or max(min(self.shape[a] for a in self.axes) // 2, 1)

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Frequencies k (cycles per input), or the middle of each ring."""
        if len(self.axes) == 1 and self.bands is None:
            return tuple(f"k={k}" for k in range(self.coefficient_shape[self.axes[0]]))
        return tuple(f"|k|={(k + 0.5) / self._bands:.3f}" for k in range(self._bands))

    def forward(self, x: jax.Array) -> jax.Array:
        """Complex coefficients."""
        return jnp.fft.rfftn(x, axes=[a + 1 for a in self.axes])

    def inverse(self, s: jax.Array) -> jax.Array:
        """Real inputs of the original, even or odd, length."""
        return jnp.fft.irfftn(s, s=[self.shape[a] for a in self.axes], axes=[a + 1 for a in self.axes])


@_register()
@dataclass(frozen=True)
class DCT(Transform):
    """Orthonormal discrete cosine transform (type II) along ``axes``."""

    shape: Shape
    axes: Shape

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.shape

    def forward(self, x: jax.Array) -> jax.Array:
        """Real coefficients."""
        for a in self.axes:
            x = _along(_cosines(self.shape[a]), x, a + 1)
        return x

    def inverse(self, s: jax.Array) -> jax.Array:
        """The transpose."""
        for a in self.axes:
            s = _along(_cosines(self.shape[a]).T, s, a + 1)
        return s


@lru_cache(maxsize=64)
def _cosines(n: int) -> np.ndarray:
    k, t = np.arange(n)[:, None], np.arange(n)[None]
    matrix = math.sqrt(2 / n) * np.cos(np.pi * k * (2 * t + 1) / (2 * n))
    matrix[0] /= math.sqrt(2)
    return matrix


def _along(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    """matrix [m, n] applied along one axis of x."""
    return jnp.moveaxis(jnp.tensordot(x, jnp.asarray(matrix, x.dtype), [[axis], [1]]), -1, axis)


@_register()
@dataclass(frozen=True)
class DWT(Transform):
    """Orthonormal periodised wavelet transform along ``axes`` (PyWavelets' mode "periodization").

    Coefficients stay in the input's shape, coarse before fine along every axis (Mallat's layout). Groups: the coarse
    block ``A<level>`` and the details of every level, by orientation in more than one dimension: a letter per axis, a
    for smooth and d for detail (PyWavelets' keys).
    """

    shape: Shape
    axes: Shape
    wavelet: str
    levels: int

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.shape

    def _blocks(self) -> list[tuple[str, tuple[slice, ...]]]:
        """(label, where) of every block of coefficients, coarse first."""
        whole = [slice(None)] * len(self.shape)
        blocks = []
        for level in range(1, self.levels + 1):
            for letters in itertools.product("ad", repeat=len(self.axes)):
                where = list(whole)
                for a, letter in zip(self.axes, letters):
                    half = self.shape[a] >> level
                    where[a] = slice(0, half) if letter == "a" else slice(half, 2 * half)
                name = "".join(letters)
                if "d" in name:
                    blocks.append((f"d{level}" if len(name) == 1 else f"{name}{level}", tuple(where)))
        where = list(whole)
        for a in self.axes:
            where[a] = slice(0, self.shape[a] >> self.levels)
        return [(f"a{self.levels}", tuple(where)), *reversed(blocks)]

    @property
    def groups(self) -> np.ndarray:
        """Coarse block, then details by level and orientation."""
        ids = np.zeros(self.shape, int)
        for k, (_, where) in enumerate(self._blocks()):
            ids[where] = k
        return ids

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Names of the blocks."""
        return tuple(label for label, _ in self._blocks())

    def forward(self, x: jax.Array) -> jax.Array:
        """Level by level on the coarse block."""
        x = jnp.asarray(x)
        for level in range(self.levels):
            where = self._coarse(level)
            block = x[where]
            for a in self.axes:
                block = _along(_wavelet_step(self.wavelet, self.shape[a] >> level), block, a + 1)
            x = block if level == 0 else x.at[where].set(block)
        return x

    def inverse(self, s: jax.Array) -> jax.Array:
        """The transpose, in reverse order."""
        s = jnp.asarray(s)
        for level in reversed(range(self.levels)):
            where = self._coarse(level)
            block = s[where]
            for a in self.axes:
                block = _along(_wavelet_step(self.wavelet, self.shape[a] >> level).T, block, a + 1)
            s = block if level == 0 else s.at[where].set(block)
        return s

    def _coarse(self, level: int) -> tuple[slice, ...]:
        inner = [slice(0, d >> level) if a in self.axes else slice(None) for a, d in enumerate(self.shape)]
        return (slice(None), *inner)


@lru_cache(maxsize=64)
def _wavelet_step(wavelet: str, n: int) -> np.ndarray:
    """Orthonormal [n, n]: smooth coefficients in the first half of the rows, details in the second."""
    low = scaling_filter(wavelet)
    length = len(low)
    high = low[::-1] * (-1.0) ** (np.arange(length) + 1)
    matrix = np.zeros((n, n))
    for k in range(n // 2):
        for j in range(length):
            column = (2 * k + length // 2 - j) % n
            matrix[k, column] += low[j]
            matrix[n // 2 + k, column] += high[j]
    return matrix


@lru_cache(maxsize=64)
def scaling_filter(wavelet: str) -> np.ndarray:
    """Decomposition low-pass filter of haar, db1..db8 or sym5, by spectral factorisation (Daubechies 1992, ch. 6).

    The half-band polynomial's roots z come in pairs z, 1/z: Daubechies' wavelets take those inside the unit circle,
    symlets the choice with the most linear phase.
    """
    names = {"haar": (1, False), "sym5": (5, True), **{f"db{p}": (p, False) for p in range(1, 9)}}
    if wavelet not in names:
        raise ArgumentError(f"wavelet {wavelet!r} is unknown; choose one of {', '.join(names)}")
    order, symmetric = names[wavelet]
    ys = np.roots([math.comb(order - 1 + k, k) for k in reversed(range(order))]) if order > 1 else np.array([])
    half = 1 - 2 * ys
    inside = half - np.sqrt(half**2 - 1 + 0j)
    inside = np.where(np.abs(inside) < 1, inside, 1 / inside)
    if not symmetric:
        return _filter(inside, order)[::-1]
    kept = [z for z in inside if z.imag >= -1e-12]
    filters = []
    for flips in itertools.product((False, True), repeat=len(kept)):
        roots = [w for z, f in zip(kept, flips) for w in _with_conjugate(1 / z if f else z)]
        filters.append(_filter(np.array(roots), order))
    return min(filters, key=lambda h: (round(_phase_bend(h), 9), h[np.argmax(np.abs(h)) - 1]))


def _with_conjugate(z: complex) -> list[complex]:
    return [z] if abs(z.imag) < 1e-12 else [z, z.conjugate()]


def _filter(roots: np.ndarray, order: int) -> np.ndarray:
    coefficients = np.real(np.poly(np.concatenate([roots, -np.ones(order)])))
    return math.sqrt(2) * coefficients / coefficients.sum()


def _phase_bend(h: np.ndarray) -> float:
    w = np.linspace(0.01, 0.9 * np.pi, 200)
    phase = np.unwrap(np.angle(np.exp(-1j * np.outer(w, np.arange(len(h)))) @ h))
    slope = (w @ phase) / (w @ w)
    return float(np.max(np.abs(phase - slope * w)))


@_register("components", "mean", "analysis")
@dataclass(frozen=True)
class Linear(Transform):
    """x = mean + s @ components, for any components [k, d] over the flattened input.

    ``analysis`` [d, k] gives s = (x - mean) @ analysis; None means the non-negative least-squares solution (NMF),
    which is solved and never differentiated. Groups: one per component.
    """

    components: jax.Array
    mean: jax.Array
    analysis: jax.Array | None
    shape: Shape
    label: str = "linear"

    @property
    def name(self) -> str:
        """What to call it in reports."""
        return self.label

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.shape

    @property
    def coefficient_shape(self) -> Shape:
        """[k]."""
        return (int(self.components.shape[0]),)

    @property
    def is_exact(self) -> bool:
        """Whether analysis @ components is the identity."""
        if self.analysis is None:
            return False
        product = np.asarray(self.analysis, np.float64) @ np.asarray(self.components, np.float64)
        tolerance = 100 * len(product) * float(jnp.finfo(self.components.dtype).eps)
        return bool(np.abs(product - np.eye(len(product))).max() < tolerance)

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Number of the component."""
        return tuple(f"{self.label} {k}" for k in range(self.coefficient_shape[0]))

    def forward(self, x: jax.Array) -> jax.Array:
        """Coefficients [n, k]."""
        flat = x.reshape(x.shape[0], -1) - self.mean.astype(x.dtype)
        if self.analysis is not None:
            return flat @ self.analysis.astype(x.dtype)
        return nonnegative_least_squares(jax.lax.stop_gradient(flat), self.components.astype(x.dtype))

    def inverse(self, s: jax.Array) -> jax.Array:
        """Mean plus the components' sum."""
        flat = s @ self.components.astype(s.dtype) + self.mean.astype(s.dtype)
        return flat.reshape(s.shape[0], *self.shape)


@partial(jax.jit, static_argnames=("sweeps",))
def nonnegative_least_squares(x: jax.Array, components: jax.Array, sweeps: int = 2000) -> jax.Array:
    """argmin_{s >= 0} |x - s @ components|^2 for every row, by cyclic coordinate descent over the whole batch.

    Args:
        x: [n, d]; components: [k, d].
        sweeps: at most so many passes; it stops when no coefficient moves by more than rounding.

    Returns:
        s [n, k]
    """
    gram, target = components @ components.T, x @ components.T
    diagonal = jnp.maximum(jnp.diag(gram), jnp.finfo(x.dtype).tiny)
    tolerance = 4 * jnp.finfo(x.dtype).eps

    def coordinate(k: int, s: jax.Array) -> jax.Array:
        moved = s[:, k] + (target[:, k] - s @ gram[:, k]) / diagonal[k]
        return s.at[:, k].set(jnp.maximum(moved, 0))

    def sweep(state: tuple[Any, jax.Array, Any]) -> tuple[Any, jax.Array, Any]:
        i, s, _ = state
        new = jax.lax.fori_loop(0, s.shape[1], coordinate, s)
        scale = jnp.maximum(jnp.max(jnp.abs(new)), jnp.finfo(x.dtype).tiny)
        return i + 1, new, jnp.max(jnp.abs(new - s)) > tolerance * scale

    start = jnp.zeros((x.shape[0], components.shape[0]), x.dtype)
    return jax.lax.while_loop(lambda state: (state[0] < sweeps) & state[2], sweep, (0, start, jnp.array(True)))[1]


@_register("first", "second")
@dataclass(frozen=True)
class Compose(Transform):
    """``second`` applied to the coefficients of ``first``."""

    first: Transform
    second: Transform

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first.name}+{self.second.name}"

    @property
    def input_shape(self) -> Shape:
        """That of the first."""
        return self.first.input_shape

    @property
    def coefficient_shape(self) -> Shape:
        """That of the second."""
        return self.second.coefficient_shape

    @property
    def is_exact(self) -> bool:
        """Both are."""
        return self.first.is_exact and self.second.is_exact

    @property
    def is_affine(self) -> bool:
        """Both are."""
        return self.first.is_affine and self.second.is_affine

    @property
    def groups(self) -> np.ndarray:
        """Those of the second."""
        return self.second.groups

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Those of the second."""
        return self.second.group_labels

    def forward(self, x: jax.Array) -> jax.Array:
        """First, then second."""
        return self.second.forward(self.first.forward(x))

    def inverse(self, s: jax.Array) -> jax.Array:
        """Undo the second, then the first."""
        return self.first.inverse(self.second.inverse(s))


@_register()
@dataclass(frozen=True)
class Pair(Transform):
    """A user's own two functions on batches; see ``pair``."""

    analyse: Callable[[jax.Array], jax.Array]
    synthesise: Callable[[jax.Array], jax.Array]
    shape: Shape
    coefficients: Shape
    exact: bool
    affine: bool
    ids: tuple[int, ...]
    labels: tuple[str, ...]
    label: str

    @property
    def name(self) -> str:
        """What to call it in reports."""
        return self.label

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.shape

    @property
    def coefficient_shape(self) -> Shape:
        """Shape of the coefficients of one input."""
        return self.coefficients

    @property
    def is_exact(self) -> bool:
        """As found on random inputs."""
        return self.exact

    @property
    def is_affine(self) -> bool:
        """As declared."""
        return self.affine

    @property
    def groups(self) -> np.ndarray:
        """As given."""
        return np.array(self.ids).reshape(self.coefficients)

    @property
    def group_labels(self) -> tuple[str, ...]:
        """As given."""
        return self.labels

    def forward(self, x: jax.Array) -> jax.Array:
        """The user's function."""
        return self.analyse(x)

    def inverse(self, s: jax.Array) -> jax.Array:
        """The user's function."""
        return self.synthesise(s)


# -- constructors --------------------------------------------------------------------------------------------------


def identity(shape: int | Sequence[int]) -> Identity:
    """No transform: attribute to the inputs themselves."""
    return Identity(_shape(shape, "identity"))


def rfft(shape: int | Sequence[int], *, axes: int | Sequence[int] | None = None, bands: int | None = None) -> RFFT:
    """Fourier transform of real inputs of the given shape.

    Args:
        shape: length of a signal, or shape of one input such as (28, 28) or (256, 256, 1).
        axes: axes of that shape to transform; default all.
        bands: number of rings of |frequency|; default one per frequency (1D) or half the smallest size.
    """
    shape = _shape(shape, "rfft")
    if bands is not None and bands < 1:
        raise ArgumentError(f"bands must be at least 1, got {bands}")
    return RFFT(shape, _axes(axes, shape, "rfft"), bands)


def dct(shape: int | Sequence[int], *, axes: int | Sequence[int] | None = None) -> DCT:
    """Orthonormal cosine transform; arguments as in ``rfft``."""
    shape = _shape(shape, "dct")
    return DCT(shape, _axes(axes, shape, "dct"))


def dwt(
    shape: int | Sequence[int],
    wavelet: str = "haar",
    *,
    levels: int | None = None,
    axes: int | Sequence[int] | None = None,
) -> DWT:
    """Orthonormal periodised wavelet transform.

    Args:
        shape: length of a signal, or shape of one input.
        wavelet: haar, db1..db8 or sym5.
        levels: halvings; default as many as every transformed size allows without falling below the filter's length.
        axes: axes to transform; default all.

    Raises:
        ArgumentError: a size cannot be halved that often, an unknown wavelet.
    """
    shape = _shape(shape, "dwt")
    axes = _axes(axes, shape, "dwt")
    length = len(scaling_filter(wavelet))
    sizes = [shape[a] for a in axes]
    halvings = min((n & -n).bit_length() - 1 for n in sizes)
    if levels is None:
        longest = min(int(math.log2(max(n / max(length - 1, 1), 1))) for n in sizes)
        levels = min(halvings, max(longest, 1))
    if not 1 <= levels <= halvings:
        raise ArgumentError(
            f"dwt with {levels} levels needs sizes divisible by {2 ** max(levels, 1)}, got {tuple(sizes)}: "
            "choose fewer levels or pad the inputs; an odd length cannot be halved"
        )
    return DWT(shape, axes, wavelet, levels)


def linear(
    components: Any,
    *,
    shape: int | Sequence[int] | None = None,
    mean: Any = None,
    analysis: Any = None,
    nonnegative: bool = False,
    name: str = "part",
) -> Linear:
    """Any matrix of components: x = mean + s @ components.

    Args:
        components: [k, d] over the flattened input.
        shape: of one input; default (d,).
        mean: [d]; default 0.
        analysis: [d, k] with s = (x - mean) @ analysis; default the pseudo-inverse.
        nonnegative: find s by non-negative least squares instead (parts of an NMF).
        name: label of the parts.

    Raises:
        DataError: shapes do not fit, or values are not finite.
    """
    components = np.asarray(components)
    if components.ndim != 2:
        raise DataError(f"components must be a matrix [parts, features], got shape {components.shape}")
    d = components.shape[1]
    shape = (d,) if shape is None else _shape(shape, "linear")
    if math.prod(shape) != d:
        raise DataError(f"components have {d} columns, which do not fill an input of shape {shape}")
    mean = np.zeros(d, components.dtype) if mean is None else np.asarray(mean).reshape(-1)
    if mean.shape != (d,):
        raise DataError(f"mean must have {d} entries, got {mean.shape}")
    if nonnegative:
        if analysis is not None:
            raise ArgumentError("give either analysis or nonnegative=True, not both")
        if (components < 0).any():
            raise DataError("nonnegative=True needs components without negative entries")
    else:
        analysis = np.linalg.pinv(components) if analysis is None else np.asarray(analysis)
        if analysis.shape != (d, len(components)):
            raise DataError(f"analysis must have shape {(d, len(components))}, got {analysis.shape}")
    for label, values in (("components", components), ("mean", mean), ("analysis", analysis)):
        if values is not None and not np.isfinite(values).all():
            raise DataError(f"{label} has values that are not finite")
    return Linear(
        jnp.asarray(components), jnp.asarray(mean), None if analysis is None else jnp.asarray(analysis), shape, name
    )


def _rows(data: Any) -> tuple[np.ndarray, Shape]:
    data = np.asarray(data)
    if data.ndim < 2 or not np.isfinite(data).all():
        raise DataError(f"data must be finite rows [n, ...], got shape {data.shape}")
    return data.reshape(len(data), -1), data.shape[1:]


def pca(data: Any, parts: int | None = None) -> Linear:
    """Principal components of data [n, ...]; all of them (an exact transform, if n allows) or the first few."""
    rows, shape = _rows(data)
    mean = rows.mean(0)
    count = min(rows.shape) if parts is None else parts
    if not 1 <= count <= min(rows.shape):
        raise ArgumentError(f"parts must be between 1 and {min(rows.shape)}, got {parts}")
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][:count]
    return linear(basis, shape=shape, mean=mean, analysis=basis.T, name="pc")


def nmf(data: Any, parts: int, *, sweeps: int = 300, seed: int = 0) -> Linear:
    """Non-negative parts of data [n, ...] >= 0, by hierarchical alternating least squares (Cichocki & Phan 2009)."""
    rows, shape = _rows(data)
    if (rows < 0).any():
        raise DataError("nmf needs data without negative values")
    if not 1 <= parts <= rows.shape[1]:
        raise ArgumentError(f"parts must be between 1 and {rows.shape[1]}, got {parts}")
    rng = np.random.default_rng(seed)
    scale = math.sqrt(rows.mean() / parts)
    w, h = scale * rng.uniform(0.5, 1.5, (len(rows), parts)), scale * rng.uniform(0.5, 1.5, (parts, rows.shape[1]))
    for _ in range(sweeps):
        for left, right, m in ((w.T, h, rows.T), (h, w.T, rows)):
            gram, target = right @ right.T, right @ m
            for k in range(parts):
                left[k] = np.maximum(left[k] + (target[k] - gram[k] @ left) / max(gram[k, k], 1e-12), 1e-12)
    h = np.where(h > 1e-9 * h.max(), h, 0) / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-300)
    return linear(h.astype(np.asarray(data).dtype, copy=False), shape=shape, nonnegative=True, name="part")


def ica(data: Any, parts: int, *, steps: int = 500, seed: int = 0) -> Linear:
    """Independent components of data [n, ...], by symmetric FastICA with tanh (Hyvärinen 1999)."""
    rows, shape = _rows(data)
    if not 1 <= parts <= min(rows.shape):
        raise ArgumentError(f"parts must be between 1 and {min(rows.shape)}, got {parts}")
    mean = rows.mean(0)
    _, scale, basis = np.linalg.svd(rows - mean, full_matrices=False)
    whitening = basis[:parts].T * (math.sqrt(len(rows)) / np.maximum(scale[:parts], 1e-300))
    z = (rows - mean) @ whitening
    w = np.linalg.qr(np.random.default_rng(seed).normal(size=(parts, parts)))[0]
    for _ in range(steps):
        y = np.tanh(z @ w.T)
        u, _, v = np.linalg.svd(y.T @ z / len(z) - (1 - y**2).mean(0)[:, None] * w)
        old, w = w, u @ v
        if np.abs(np.abs(np.sum(w * old, axis=1)) - 1).max() < 1e-10:
            break
    analysis = whitening @ w.T
    return linear(np.linalg.pinv(analysis), shape=shape, mean=mean, analysis=analysis, name="ic")


def fitted(estimator: Any, shape: int | Sequence[int] | None = None) -> Linear:
    """A fitted scikit-learn PCA, NMF, FastICA, TruncatedSVD or anything with ``components_``, as a transform."""
    components = getattr(estimator, "components_", None)
    if components is None:
        raise DataError(f"{type(estimator).__name__} has no components_: fit it first, or use linear(matrix)")
    kind = type(estimator).__name__
    if "NMF" in kind:
        return linear(components, shape=shape, nonnegative=True, name="part")
    mean = getattr(estimator, "mean_", None)
    if "ICA" in kind:
        mixing = np.asarray(estimator.mixing_)
        return linear(mixing.T, shape=shape, mean=mean, analysis=np.asarray(components).T, name="ic")
    return linear(components, shape=shape, mean=mean, name="pc")


def compose(first: Transform, *others: Transform) -> Transform:
    """Transforms one after another: ``compose(rfft(100), pair(...))``."""
    out = first
    for other in others:
        if out.coefficient_shape != other.input_shape:
            raise ArgumentError(
                f"{other.name} takes inputs of shape {other.input_shape}, {out.name} gives {out.coefficient_shape}"
            )
        out = Compose(out, other)
    return out


def pair(
    forward: Callable[[Any], Any],
    inverse: Callable[[Any], Any],
    shape: int | Sequence[int],
    *,
    groups: Any = None,
    labels: Sequence[str] | None = None,
    affine: bool = False,
    name: str = "own",
) -> Pair:
    """Two functions of your own on batches, ``forward(x[n, ...])`` and ``inverse(s[n, ...])``, in jax.numpy.

    Args:
        forward, inverse: traced by JAX; whether they undo each other is found by trying random inputs.
        shape: of one input.
        groups: group number of every coefficient; default each its own. labels: names of the groups.
        affine: say so when the inverse is affine: paths are then followed in x, which is faster.
        name: what to call it.
    """
    shape = _shape(shape, name)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)), jnp.result_type(float))
    try:
        s = forward(x)
        back = inverse(s)
    except Exception as error:
        raise ArgumentError(f"transform {name!r} failed on a batch of shape {x.shape}: {error}") from error
    if back.shape != x.shape:
        raise ArgumentError(f"inverse of transform {name!r} gives shape {back.shape}, not the input's {x.shape}")
    exact = bool(jnp.max(jnp.abs(back - x)) < 1e3 * jnp.finfo(x.dtype).eps * max(1.0, float(jnp.max(jnp.abs(s)))))
    coefficients = tuple(s.shape[1:])
    ids = np.arange(math.prod(coefficients)) if groups is None else np.asarray(groups)
    if ids.size != math.prod(coefficients):
        raise ArgumentError(f"groups must number all {math.prod(coefficients)} coefficients, got {ids.size}")
    names = tuple(str(k) for k in range(int(ids.max()) + 1)) if labels is None else tuple(labels)
    return Pair(forward, inverse, shape, coefficients, exact, affine, tuple(ids.ravel().tolist()), names, name)
