"""Problem: what every system is handed: a loss, its parameters, its data, its symmetry.

    L(theta) = (1/n) sum_i l(theta; x_i, y_i) + R(theta)

with parameters as a pytree on the outside and as one flat vector ``w[N]`` on the inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxland.core.energy import derivatives as curvature
from jaxland.core.energy import kernels
from jaxland.core.energy.one_hidden import one_hidden
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.models.model import ACTIVATIONS, ODD_ACTIVATIONS, Model
from jaxland.problem.symmetry import DenseSymmetry, NoSymmetry, Symmetry

PyTree = Any


def cross_entropy(outputs: Float[Array, "n c"], labels: Any) -> Float[Array, " n"]:
    """Softmax cross-entropy per example, in nats; ``labels`` [n] are class indices."""
    logp = jax.nn.log_softmax(outputs, axis=-1)
    return -jnp.take_along_axis(logp, labels[:, None].astype(jnp.int32), axis=-1)[:, 0]


def squared_error(outputs: Float[Array, "n ..."], targets: Any) -> Float[Array, " n"]:
    """Squared error per example, summed over outputs; targets [n] or of the outputs' shape."""
    targets = jnp.reshape(targets, outputs.shape)
    return jnp.sum((outputs - targets) ** 2, axis=tuple(range(1, outputs.ndim)))


KERNEL_CHOICES = ("auto", "xla", "fused")
LOSSES: dict[str, Callable] = {"cross_entropy": cross_entropy, "squared_error": squared_error}


@dataclass(frozen=True)
class L2:
    """Regulariser lam * sum(theta^2), no factor 1/2 (Niroomand & Wales 2023)."""

    lam: float = 0.0

    def __call__(self, params: PyTree) -> jax.Array:
        """Value of the regulariser."""
        return self.lam * jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)]))


@dataclass(frozen=True, eq=False)
class Problem:
    """A loss over parameters, with its data and symmetry. Build one with ``from_model`` or ``from_energy``.

    Attributes:
        params: parameters (pytree): where the model stands, or a template of shapes and dtypes.
        loss: per-example losses ``loss(params, x, y) -> [n]``; None for a plain energy.
        x, y: data, leading axis n; passed to jit as arguments, never closed over.
        regulariser: ``regulariser(params) -> scalar``, added once.
        plain: for ``from_energy``: ``plain(w) -> scalar``.
        model: the model behind the loss, where there is one.
        loss_name: name of a built-in loss (``cross_entropy``, ``squared_error``), else None.
        symmetry: parameter transformations that leave the loss unchanged.
        chunk: rows evaluated at once (None: all); bounds memory of every sum over the data.
        output_loss: ``output_loss(outputs, y) -> [n]``, the loss behind the model (Gauss-Newton products need it).
        second: for ``from_energy``: ``second(w) -> (energy, gradient, Hessian)`` in closed form, where known.
        kernel_choice: what evaluates the loss for solvers: "xla", "fused" (one Pallas kernel per network; on a CPU
            interpreted, so slow), or "auto": fused where a timed trial on the device finds it faster.
    """

    params: PyTree
    loss: Callable[[PyTree, Any, Any], jax.Array] | None = None
    x: Any = None
    y: Any = None
    regulariser: Callable[[PyTree], jax.Array] | None = None
    plain: Callable[[jax.Array], jax.Array] | None = None
    model: Model | None = None
    loss_name: str | None = None
    symmetry: Symmetry = field(default_factory=NoSymmetry)
    chunk: int | None = None
    output_loss: Callable[[Any, Any], jax.Array] | None = None
    second: Callable[[jax.Array], Any] | None = None
    kernel_choice: str = "auto"

    @classmethod
    def from_model(
        cls,
        model: Model,
        x: Any,
        y: Any,
        *,
        loss: str | Callable[[Any, Any], jax.Array] = "cross_entropy",
        l2: float = 0.0,
        regulariser: Callable[[PyTree], jax.Array] | None = None,
        params: PyTree | None = None,
        chunk: int | None = None,
        kernel_choice: str = "auto",
    ) -> Problem:
        """Mean of a per-example loss of a model's outputs, plus l2 * sum(theta^2) or a regulariser of your own.

        Args:
            model: see ``jaxland.models``.
            x: inputs [n, ...]; y: targets [n] (class indices for cross-entropy) or [n, ...].
            loss: "cross_entropy", "squared_error", or ``loss(outputs, y) -> [n]``.
            l2: weight of the sum of squares, without the factor 1/2.
            regulariser: instead of ``l2``.
            params: where the model stands; default ``model.params``.
            chunk: rows evaluated at once.
            kernel_choice: "auto", "xla" or "fused"; see the attribute.

        Raises:
            DataError: lengths differ, data empty or not finite, labels outside the model's outputs.
            ArgumentError: unknown loss, negative l2, or both l2 and regulariser.
        """
        if isinstance(loss, str):
            if loss not in LOSSES:
                raise ArgumentError(f"loss {loss!r} is unknown; choose one of {', '.join(LOSSES)} or pass a function")
            loss_name, per_output = loss, LOSSES[loss]
        else:
            loss_name, per_output = None, loss
        if l2 < 0:
            raise ArgumentError(f"l2 must not be negative, got {l2}")
        if regulariser is not None and l2:
            raise ArgumentError("give either l2 or regulariser, not both")
        params = model.params if params is None else params
        x, y = _check_data(x, y)
        if loss_name == "cross_entropy":
            shape = jax.eval_shape(model.apply, params, x[:1])
            _check_labels(y, shape.shape)
            y = y.astype(jnp.int32)

        def per_example(p: PyTree, xs: Any, ys: Any) -> jax.Array:
            return per_output(model.apply(p, xs), ys)

        symmetry: Symmetry = NoSymmetry()
        if model.sizes is not None and (regulariser is None):
            symmetry = DenseSymmetry(model.sizes, odd=model.activation in ODD_ACTIVATIONS)
        reg = regulariser if regulariser is not None else (L2(float(l2)) if l2 else None)
        return cls(
            params,
            per_example,
            x,
            y,
            reg,
            None,
            model,
            loss_name,
            symmetry,
            chunk,
            per_output,
            kernel_choice=kernel_choice,
        )

    @classmethod
    def from_energy(
        cls,
        energy: Callable[[jax.Array], jax.Array],
        n: int,
        *,
        symmetry: Symmetry | None = None,
        second: Callable[[jax.Array], Any] | None = None,
    ) -> Problem:
        """Any function of n variables: Mueller-Brown, Lennard-Jones, your own.

        Args:
            energy: ``energy(w[n]) -> scalar``, twice differentiable by JAX.
            n: number of variables.
            symmetry: transformations that leave the energy unchanged, where known.
            second: ``second(w) -> (energy, gradient [n], Hessian [n, n])``; default by automatic differentiation.

        >>> wells = Problem.from_energy(lambda w: jnp.sum((w**2 - 1) ** 2), 2)
        >>> wells.hessian(jnp.array([1.0, -1.0])).tolist()
        [[8.0, 0.0], [0.0, 8.0]]
        """
        if int(n) < 1:
            raise ArgumentError(f"n must be at least 1, got {n}")
        return cls(jnp.zeros((int(n),)), plain=energy, symmetry=symmetry or NoSymmetry(), second=second)

    # -- flat view ---------------------------------------------------------------------------------------------

    @cached_property
    def _flat(self) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
        return ravel_pytree(self.params)

    @property
    def w(self) -> Float[Array, " N"]:
        """Flat copy of ``params``."""
        return self._flat[0]

    @property
    def size(self) -> int:
        """Number of parameters N."""
        return int(self._flat[0].size)

    @property
    def dtype(self) -> np.dtype:
        """dtype of the flat parameters."""
        return np.dtype(self._flat[0].dtype)

    def ravel(self, params: PyTree) -> Float[Array, " N"]:
        """Pytree to flat vector."""
        return ravel_pytree(params)[0]

    def unravel(self, w: Float[Array, " N"]) -> PyTree:
        """Flat vector to pytree."""
        return self._flat[1](w)

    @property
    def n(self) -> int:
        """Number of training examples (0 for a plain energy)."""
        return 0 if self.x is None else int(jax.tree.leaves(self.x)[0].shape[0])

    @property
    def data(self) -> tuple[Any, Any]:
        """(x, y): pass it as an argument to jitted functions that use ``energy_of`` and its kin."""
        return (self.x, self.y)

    def at(self, w: Any) -> Problem:
        """The same problem standing at other parameters (flat vector or pytree)."""
        flat = isinstance(w, jax.Array | np.ndarray) and np.ndim(w) == 1 and np.size(w) == self.size
        params = self.unravel(jnp.asarray(w, self.dtype)) if flat else w
        return replace(self, params=params)

    def with_data(self, x: Any, y: Any) -> Problem:
        """The same model and loss over other data."""
        x, y = _check_data(x, y)
        if self.loss_name == "cross_entropy":
            y = y.astype(jnp.int32)
        return replace(self, x=x, y=y)

    def astype(self, dtype: Any) -> Problem:
        """The same problem with parameters and data in another precision (labels stay integers)."""
        from jaxland.core.solvers.precision import cast

        return replace(self, params=cast(self.params, dtype), x=cast(self.x, dtype), y=cast(self.y, dtype))

    # -- pure functions of (w, data): static under jit, data as an argument -------------------------------------

    @cached_property
    def energy_of(self) -> Callable[[jax.Array, tuple[Any, Any]], jax.Array]:
        """Pure ``(w[N], data) -> L(w)``."""
        unravel, loss, reg, plain, chunk = self._flat[1], self.loss, self.regulariser, self.plain, self.chunk
        if plain is not None:
            return lambda w, data: plain(w)
        if loss is None:
            raise ProblemError("the problem has neither per-example losses nor a plain energy")

        def energy(w: jax.Array, data: tuple[Any, Any]) -> jax.Array:
            p = unravel(w)
            x, y = data
            total = curvature.sum_rows(lambda xs, ys: jnp.sum(loss(p, xs, ys)), (x, y), chunk)
            value = total / jax.tree.leaves(x)[0].shape[0]
            return value if reg is None else value + reg(p)

        return energy

    @cached_property
    def losses_of(self) -> Callable[[jax.Array, Any, Any], jax.Array]:
        """Pure ``(w[N], x, y) -> per-example losses [n]``, without the regulariser."""
        if self.loss is None:
            raise ProblemError("this problem is a plain energy: it has no per-example losses")
        unravel, loss = self._flat[1], self.loss
        return lambda w, x, y: loss(unravel(w), x, y)

    @cached_property
    def outputs_of(self) -> Callable[[jax.Array, Any], jax.Array]:
        """Pure ``(w[N], x) -> model outputs``."""
        if self.model is None:
            raise ProblemError("this problem has no model: build it with Problem.from_model")
        unravel, apply = self._flat[1], self.model.apply
        return lambda w, x: apply(unravel(w), x)

    @cached_property
    def kernel(self) -> kernels.Kernel:
        """Energy, gradient and Hessian for solvers, as ``kernel_choice`` has it."""
        if self.kernel_choice not in KERNEL_CHOICES:
            raise ArgumentError(
                f"kernel_choice {self.kernel_choice!r} is unknown; choose one of {', '.join(KERNEL_CHOICES)}"
            )
        base = self._xla_kernel
        # Interpreted on a CPU, it can only be slower there.
        if self.kernel_choice == "xla" or (self.kernel_choice == "auto" and jax.default_backend() == "cpu"):
            return base
        from jaxland.core.pallas import fused

        why, model, reg = self._not_fusible(), self.model, self.regulariser
        if model is None or model.sizes is None or model.activation is None or self.loss_name is None or why:
            if self.kernel_choice == "fused":
                raise ArgumentError(f"no fused kernel for this problem: {why}; use kernel_choice='xla'")
            return base
        lam = reg.lam if isinstance(reg, L2) else 0.0
        shape = fused.shape_for(model.sizes, model.activation, self.loss_name, lam, self.n)
        made = fused.kernel(shape, base, jnp.asarray(self.x, self.dtype), self.y)
        if self.kernel_choice == "auto" and not fused.is_faster(made, base, self.size, self.dtype, (shape, self.n)):
            return base
        return made

    def _not_fusible(self) -> str | None:
        """Why no fused kernel serves the problem; None where one does."""
        from jaxland.core.pallas import fused

        if self.model is None or self.model.sizes is None or self.loss_name is None:
            return "it serves dense networks (jaxland.mlp) with a built-in loss"
        if self.chunk is not None or jnp.ndim(self.x) != 2:
            return "it serves data [n, d] without chunks"
        if not (self.regulariser is None or isinstance(self.regulariser, L2)):
            return "it serves no regulariser but L2"
        return fused.supports(self.model.sizes, self.model.activation, self.loss_name)

    @cached_property
    def _xla_kernel(self) -> kernels.Kernel:
        """In closed form where the problem allows it, else by autodiff."""
        model, reg = self.model, self.regulariser
        if (
            model is not None
            and model.sizes is not None
            and len(model.sizes) == 3
            and self.loss_name is not None
            and self.chunk is None
            and (reg is None or isinstance(reg, L2))
            and jnp.asarray(self.x).ndim == 2
        ):
            return one_hidden(
                model.sizes,
                ACTIVATIONS[model.activation or "identity"],
                self.loss_name,
                0.0 if reg is None else reg.lam,
                jnp.asarray(self.x, self.dtype),
                self.y,
                is_tanh=model.activation == "tanh",
            )
        if self.second is not None:
            kernel = kernels.closed_form(self.second, self.data, self.size)
        else:
            kernel = kernels.autodiff(self.energy_of, self.data, self.size, 2.0 * max(self.n, 1) * self.size)
        zero_space = getattr(self.symmetry, "zero_space", None)
        return kernel if zero_space is None else kernels.lifted(kernel, zero_space)

    # -- conveniences (jitted once per problem) -------------------------------------------------------------------

    @cached_property
    def _jitted(self) -> dict[str, Callable]:
        f = self.energy_of
        return {
            "energy": jax.jit(f),
            "gradient": jax.jit(jax.grad(f)),
            "hvp": jax.jit(lambda w, v, data: curvature.hvp(lambda u: f(u, data), w, v)),
            "hessian": jax.jit(lambda w, data: curvature.hessian(lambda u: f(u, data), w)),
        }

    def energy(self, w: Any = None) -> jax.Array:
        """L(w), a scalar."""
        return self._jitted["energy"](self.w if w is None else w, self.data)

    def gradient(self, w: Any = None) -> Float[Array, " N"]:
        """Gradient of L at w."""
        return self._jitted["gradient"](self.w if w is None else w, self.data)

    def hvp(self, w: Any, v: Any) -> Float[Array, " N"]:
        """Hessian of L at w times v, forward over reverse."""
        return self._jitted["hvp"](w, v, self.data)

    def hessian(self, w: Any = None) -> Float[Array, "N N"]:
        """Hessian of L at w (symmetric, N x N): for small N."""
        return self._jitted["hessian"](self.w if w is None else w, self.data)

    @cached_property
    def _losses(self) -> Callable:
        return jax.jit(self.losses_of)

    @cached_property
    def _outputs(self) -> Callable:
        return jax.jit(self.outputs_of)

    def losses(self, w: Any = None, x: Any = None, y: Any = None) -> Float[Array, " n"]:
        """Per-example losses on the training data, or on (x, y)."""
        return self._losses(self.w if w is None else w, *(self.data if x is None else (x, y)))

    def predict(self, w: Any = None, x: Any = None) -> Float[Array, "n ..."]:
        """Model outputs on the training data, or on x."""
        return self._outputs(self.w if w is None else w, self.x if x is None else x)


def _check_data(x: Any, y: Any) -> tuple[Any, Any]:
    x, y = jax.tree.map(jnp.asarray, x), jax.tree.map(jnp.asarray, y)
    lengths = {int(leaf.shape[0]) if leaf.ndim else -1 for leaf in jax.tree.leaves((x, y))}
    if len(lengths) != 1 or lengths == {-1}:
        raise DataError(f"x and y must have the same number of rows, got lengths {sorted(lengths)}")
    if lengths == {0}:
        raise DataError("x and y are empty: at least one row is needed")
    for name, tree in (("x", x), ("y", y)):
        for leaf in jax.tree.leaves(tree):
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                bad = np.argwhere(~np.isfinite(np.asarray(leaf)))
                if len(bad):
                    raise DataError(
                        f"{name} has {len(bad)} values that are not finite; the first is at index "
                        f"{tuple(int(i) for i in bad[0])}. Remove or impute them first"
                    )
    return x, y


def _check_labels(y: Any, output_shape: tuple[int, ...]) -> None:
    if len(output_shape) != 2:
        raise DataError(f"cross_entropy needs model outputs of shape [n, classes], got {output_shape}")
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise DataError(f"cross_entropy needs class indices y of shape [n], got {labels.shape}")
    if not np.array_equal(labels, np.round(labels)) or labels.min() < 0 or labels.max() >= output_shape[1]:
        raise DataError(
            f"labels must be integers 0..{output_shape[1] - 1} for a model with {output_shape[1]} outputs, "
            f"got values from {labels.min()} to {labels.max()}"
        )
