"""Losses and errors along a path through parameter space, over all of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Float

from jaxland.core.solvers import auto_band
from jaxland.errors import ArgumentError
from jaxland.problem.problem import Problem, PyTree
from jaxland.problem.rows import sum_rows, to_host

MEASURES = ("energy", "loss", "error", "test_loss", "test_error")


@dataclass(frozen=True)
class Recomputed:
    """Batch statistics recomputed at every point of the path that is evaluated in full (batch normalisation).

    Attributes:
        statistics: ``params -> state``: passes training data through the network and returns its statistics.
        apply: ``(params, state, x) -> outputs`` in inference mode.
    """

    statistics: Callable[[PyTree], PyTree]
    apply: Callable[[PyTree, PyTree, PyTree], jax.Array]


@dataclass(frozen=True)
class Profile:
    """Values along a path, at images and between them.

    Attributes:
        position: arc length from the start over the whole length [M], 0..1.
        image: whether the point is an image [M].
        energy: training loss with regulariser [M].
        loss, error: mean training loss and share of wrong predictions [M]; None where not defined.
        test_loss, test_error: the same on test data; None without.
        length: of the path.
    """

    position: Float[np.ndarray, " M"]
    image: np.ndarray
    energy: Float[np.ndarray, " M"]
    loss: Float[np.ndarray, " M"] | None
    error: Float[np.ndarray, " M"] | None
    test_loss: Float[np.ndarray, " M"] | None
    test_error: Float[np.ndarray, " M"] | None
    length: float

    @property
    def peak(self) -> int:
        """Index of the highest energy."""
        return int(np.argmax(self.energy))

    def barrier(self, what: str = "energy") -> float:
        """Highest value along the path less the higher one of its ends; for what = "energy", "test_error", ..."""
        values = getattr(self, what, None) if what in MEASURES else None
        if values is None:
            raise ArgumentError(f"the profile has no {what!r}: choose from {', '.join(self.measures())}")
        return float(np.max(values) - max(values[0], values[-1]))

    def measures(self) -> list[str]:
        """Names of the values there are."""
        return [name for name in MEASURES if getattr(self, name) is not None]

    def to_pandas(self) -> pd.DataFrame:
        """One row per point."""
        return pd.DataFrame({name: getattr(self, name) for name in ("position", "image", *self.measures())})


class Meter:
    """Energy, mean loss and error at points, over train and test data in chunks, points spread over a mesh."""

    def __init__(
        self,
        problem: Problem,
        test: tuple[PyTree, PyTree] | None,
        mesh: Mesh | None,
        recomputed: Recomputed | None,
    ) -> None:
        self.problem, self.recomputed = problem, recomputed
        self.chunk = problem.chunk
        self.devices = 1
        self.mesh = None
        if mesh is not None and auto_band.IMAGES in mesh.axis_names and recomputed is None:
            self.devices, self.mesh = int(mesh.shape[auto_band.IMAGES]), Mesh(mesh.devices, mesh.axis_names)
        self.plain = problem.loss is None
        self.test = None if test is None else problem.with_data(*test).data
        if test is not None and self.plain:
            raise ArgumentError("a plain energy has no test data")
        self._programs: dict[str, Callable[..., jax.Array]] = {}

    def _sums(self, w: jax.Array, state: PyTree, x: PyTree, y: PyTree) -> jax.Array:
        """(sum of losses, sum of errors or nan) over rows."""
        problem, params = self.problem, self.problem.unravel(w)

        def part(x: PyTree, y: PyTree) -> jax.Array:
            if problem.model is None:
                return jnp.stack([jnp.sum(problem.losses_of(w, x, y)), jnp.asarray(jnp.nan, w.dtype)])
            if self.recomputed is not None:
                outputs = self.recomputed.apply(params, state, x)
            else:
                outputs = problem.model.apply(params, x)
            assert problem.output_loss is not None
            return jnp.stack([jnp.sum(problem.output_loss(outputs, y)), jnp.sum(_errors(outputs, y, w.dtype))])

        return sum_rows(part, (x, y), self.chunk)

    def _all(self, w: jax.Array, state: PyTree, data: PyTree, test: PyTree) -> jax.Array:
        """(energy, loss, error, test loss, test error)."""
        problem = self.problem
        nan = jnp.asarray(jnp.nan, w.dtype)
        if self.plain:
            return jnp.stack([problem.energy_of(w, data), nan, nan, nan, nan])
        train = self._sums(w, state, *data) / jax.tree.leaves(data)[0].shape[0]
        energy = train[0] if problem.regulariser is None else train[0] + problem.regulariser(problem.unravel(w))
        held = jnp.stack([nan, nan])
        if test is not None:
            held = self._sums(w, state, *test) / jax.tree.leaves(test)[0].shape[0]
        return jnp.concatenate([energy[None], train, held])

    def __call__(self, points: np.ndarray, rows: int | None = None, with_test: bool = True) -> np.ndarray:
        """[P, 5] values; ``rows`` evenly spaced rows of the training data instead of all."""
        problem = self.problem
        data = () if self.plain else problem.data
        if rows is not None and not self.plain and rows < problem.n:
            at = np.linspace(0, problem.n - 1, rows).astype(int)
            data = jax.tree.map(lambda a: a[at], data)
        test = self.test if with_test else None
        if "one" not in self._programs:
            self._programs["one"] = jax.jit(self._all)
            if self.mesh is not None:
                spec = jax.sharding.PartitionSpec
                self._programs["many"] = jax.jit(
                    jax.shard_map(
                        lambda ws, data, test: jax.lax.all_gather(
                            jax.lax.map(lambda w: self._all(w, None, data, test), ws), auto_band.IMAGES, tiled=True
                        ),
                        mesh=self.mesh,
                        in_specs=(spec(auto_band.IMAGES), spec(), spec()),
                        out_specs=spec(),
                        check_vma=False,
                    )
                )
        if self.mesh is None:
            state_of = (lambda w: None) if self.recomputed is None else self._statistics
            each = [self._programs["one"](w, state_of(w), data, test) for w in points]
            return np.asarray([np.asarray(values) for values in each], float)
        found = []
        for start in range(0, len(points), self.devices):
            part = auto_band.pad(points[start : start + self.devices], self.devices)
            values = to_host(self._programs["many"](part, data, test))
            found.append(values[: len(points) - start])
        return np.concatenate(found).astype(float)

    def _statistics(self, w: np.ndarray) -> PyTree:
        assert self.recomputed is not None
        return self.recomputed.statistics(self.problem.unravel(jnp.asarray(w)))

    def profile(self, images: np.ndarray, between: int) -> Profile:
        """Values at the images and at points between them."""
        points = auto_band.probes(images, between)
        values = self(points)
        steps = np.linalg.norm(np.diff(points.astype(float), axis=0), axis=1)
        arc = np.concatenate([[0.0], np.cumsum(steps)])

        def column(j: int) -> np.ndarray | None:
            return None if np.isnan(values[:, j]).all() else values[:, j]

        position = arc / arc[-1] if arc[-1] > 0 else arc
        image = np.arange(len(points)) % (between + 1) == 0
        loss, error, test_loss, test_error = (column(j) for j in range(1, 5))
        return Profile(
            position=position,
            image=image,
            energy=values[:, 0],
            loss=loss,
            error=error,
            test_loss=test_loss,
            test_error=test_error,
            length=float(arc[-1]),
        )


def _errors(outputs: jax.Array, y: PyTree, dtype: DTypeLike) -> jax.Array:
    """Wrong predictions per row (their share along a sequence), nan where labels are no class indices."""
    y = jnp.asarray(y)
    if jnp.issubdtype(y.dtype, jnp.integer) and outputs.ndim == y.ndim + 1:
        wrong = jnp.argmax(outputs, axis=-1).astype(y.dtype) != y
        return jnp.mean(wrong.astype(dtype), axis=tuple(range(1, wrong.ndim)))
    return jnp.full((outputs.shape[0],), jnp.nan, dtype)
