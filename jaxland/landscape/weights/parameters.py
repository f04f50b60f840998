"""What each flat parameter of a network is: its layer, the units it joins, its name."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxland.errors import ArgumentError
from jaxland.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class ParameterTable:
    """What each flat parameter is, one column a property.

    Attributes:
        names: [N] such as ``AGE → h3``, ``h3 → 1``, ``bias h3``; with several hidden layers units are h1.3, h2.1.
        layer: [N] 0 for the first layer.
        bias: bool [N].
        source, target: [N] unit at either end (source -1 for a bias).
        sizes: widths of a dense network, None where the structure is not known.
        features: names of the inputs; origins: the source column of each.
        outputs: names of the outputs.
    """

    names: tuple[str, ...]
    layer: np.ndarray
    bias: np.ndarray
    source: np.ndarray
    target: np.ndarray
    sizes: tuple[int, ...] | None = None
    features: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        problem: Problem | None,
        n: int,
        features: Sequence[str] | None = None,
        origins: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> ParameterTable:
        """Table of a problem's model; ``n`` is the number of parameters, for a problem that is not known."""
        model = getattr(problem, "model", None)
        sizes = getattr(model, "sizes", None)
        if sizes is None:
            flat = np.full(n, -1)
            plain = _leaf_names(problem) if problem is not None else [f"w{j + 1}" for j in range(n)]
            return cls(names=tuple(plain), layer=np.zeros(n, int), bias=np.zeros(n, bool), source=flat, target=flat)
        features = _checked(features, sizes[0], "x", "features")
        origins = features if origins is None else _checked(origins, sizes[0], "x", "sources")
        outputs = _checked(outputs, sizes[-1], "y", "classes")
        deep = len(sizes) > 3
        units = [list(features)]
        for depth, width in enumerate(sizes[1:-1], 1):
            units.append([f"h{depth}.{u + 1}" if deep else f"h{u + 1}" for u in range(width)])
        units.append(list(outputs))
        names: list[str] = []
        layer: list[int] = []
        bias: list[bool] = []
        source: list[int] = []
        target: list[int] = []
        for depth, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            # Flat order: a layer's biases, then its weights [in, out] by rows.
            names += [f"bias {u}" for u in units[depth + 1]]
            names += [f"{a} → {b}" for a in units[depth] for b in units[depth + 1]]
            layer += [depth] * (fan_out * (fan_in + 1))
            bias += [True] * fan_out + [False] * (fan_in * fan_out)
            source += [-1] * fan_out + np.repeat(np.arange(fan_in), fan_out).tolist()
            target += np.tile(np.arange(fan_out), fan_in + 1).tolist()
        return cls(
            names=tuple(names),
            layer=np.array(layer),
            bias=np.array(bias),
            source=np.array(source),
            target=np.array(target),
            sizes=tuple(sizes),
            features=features,
            origins=origins,
            outputs=outputs,
        )

    def matrices(self, values: np.ndarray) -> list[np.ndarray]:
        """Weight matrices [in, out] of each layer of flat values [N]."""
        if self.sizes is None:
            raise ArgumentError("the layers of this model are not known: only networks made by jaxland.mlp have them")
        out, start = [], 0
        for fan_in, fan_out in itertools.pairwise(self.sizes):
            start += fan_out
            out.append(np.asarray(values)[start : start + fan_in * fan_out].reshape(fan_in, fan_out))
            start += fan_in * fan_out
        return out


def _leaf_names(problem: Problem) -> list[str]:
    import jax

    names = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(problem.params)[0]:
        stem = jax.tree_util.keystr(path) or "w"
        for at in np.ndindex(np.shape(leaf)):
            names.append(f"{stem}[{','.join(map(str, at))}]" if at else stem)
    return names


def _checked(names: Sequence[str] | None, n: int, stem: str, what: str) -> tuple[str, ...]:
    if names is None or (what == "classes" and len(names) == 0):
        return tuple(f"{stem}{i + 1}" for i in range(n)) if n > 1 or stem != "y" else ("output",)
    if len(names) != n:
        raise ArgumentError(f"{what}: {len(names)} names for {n} of them")
    return tuple(str(name) for name in names)
