"""Problem: what every system is handed: a loss, its parameters, its data, its symmetry.

    L(theta) = (1/n) sum_i l(theta; x_i, y_i) + R(theta)

with parameters as a pytree on the outside and as one flat vector ``w[N]`` on the inside.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import InitVar, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from numpy.typing import DTypeLike

from jaxland.core.energy import kernels
from jaxland.errors import ArgumentError, ProblemError
from jaxland.models.model import Model
from jaxland.problem import contracts, evaluation
from jaxland.problem.energy_checks import check_energy, check_symmetry
from jaxland.problem.kernel import check_kernel_choice, chosen_kernel
from jaxland.problem.losses import PyTree, as_arrays, check_targets, checked_rows
from jaxland.problem.parts import parts_of
from jaxland.problem.regularisation import L2Choice
from jaxland.problem.scale import Scale
from jaxland.problem.symmetry import NoSymmetry, Symmetry
from jaxland.showing import brief, table

T = TypeVar("T")


def _restored(kept: dict[str, Any], wide: bool) -> Problem:
    """A problem from what was pickled, in the precision it had."""
    with jax.enable_x64(True) if wide else nullcontext():
        plain = {name: jax.tree.map(jnp.asarray, kept[name]) for name in ("params", "x", "y")}
        model, per_output = kept["model"], kept["output_loss"]
        if model is not None:
            kept = {**kept, "loss": lambda p, xs, ys: per_output(model.apply(p, xs), ys)}
        return Problem(**{**kept, **plain})


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
        loss_name: name of a built-in loss (``cross_entropy``, ``squared_error``, ``poisson``), else None.
        symmetry: parameter transformations that leave the loss unchanged.
        chunk: rows evaluated at once (None: all); bounds memory of every sum over the data.
        output_loss: ``output_loss(outputs, y) -> [n]``, the loss behind the model (Gauss-Newton products need it).
        second: for ``from_energy``: ``second(w) -> (energy, gradient, Hessian)`` in closed form, where known.
        kernel_choice: what evaluates the loss for solvers: "xla", "fused" (one Pallas kernel per network; on a CPU
            interpreted, so slow), or "auto": fused where a timed trial on the device finds it faster.
        l2_choice: for ``l2="auto"``: what was chosen, and the table it was chosen from.
        scale: units of energy and length in which a landscape is searched; None: 1 for a model, found for an energy.

    Parameters and data keep the precision they had when the problem was built, and its methods compute in it,
    whatever the state of ``jax.enable_x64`` when they are called.
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
    l2_choice: L2Choice | None = None
    scale: Scale | None = None
    programs: InitVar[dict[Hashable, Any] | None] = None
    _programs: dict[Hashable, Any] = field(init=False, repr=False)
    _wide: bool = field(init=False, repr=False)

    __repr__ = brief
    _repr_html_ = table

    def __post_init__(self, programs: dict[Hashable, Any] | None) -> None:
        wide = any(isinstance(a, jax.Array) and a.dtype == np.float64 for a in jax.tree.leaves(self.params))
        object.__setattr__(self, "_wide", wide or bool(jax.config.read("jax_enable_x64")))
        object.__setattr__(self, "_programs", {} if programs is None else programs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled programs stay behind; arrays travel as NumPy's, which keep their precision in any process.
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        del kept["loss"]
        if self.model is None and self.plain is None:
            kept["loss"] = self.loss
        plain = {name: jax.tree.map(np.asarray, kept[name]) for name in ("params", "x", "y")}
        return _restored, ({**kept, **plain}, self._wide)

    def precision(self) -> AbstractContextManager[Any]:
        """The x64 state the problem was built in, for calls that must not depend on the caller's."""
        return jax.enable_x64(True) if self._wide else nullcontext()

    def compiled(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returns, made once: the one cache of compiled programs of a problem.

        It is shared with the problems that ``at`` returns, so what is made may depend on everything but ``params``.

        Args:
            key: whose it is and of what, such as ("hessian.products", kind, mesh).
            make: called where nothing is kept under the key yet.
        """
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]

    @classmethod
    def from_model(
        cls,
        model: Model,
        x: Any,
        y: Any,
        *,
        loss: str | Callable[[Any, Any], jax.Array] = "cross_entropy",
        l2: float | str = 0.0,
        regulariser: Callable[[PyTree], jax.Array] | None = None,
        params: PyTree | None = None,
        chunk: int | None = None,
        kernel_choice: str = "auto",
        dtype: DTypeLike | None = None,
    ) -> Problem:
        """Mean of a per-example loss of a model's outputs, plus l2 * sum(theta^2) or a regulariser of your own.

        Args:
            model: see ``jaxland.models``.
            x: inputs [n, ...]; y: targets [n] (class indices for cross-entropy) or [n, ...]: arrays, lists or tables
                of numbers, or pytrees of arrays.
            loss: "cross_entropy", "squared_error", "poisson" (counts; the output is the rate's logarithm), or
                ``loss(outputs, y) -> [n]``, each row's from its own outputs and targets alone.
            l2: weight of the sum of squares, without the factor 1/2; "auto": by the held-out loss of a few dozen
                quenches, see ``l2_choice``.
            regulariser: instead of ``l2``.
            params: where the model stands; default ``model.params``.
            chunk: rows evaluated at once.
            kernel_choice: "auto", "xla" or "fused"; see the attribute.
            dtype: of parameters and data, such as "float64", which landscapes need; default as they are.

        Raises:
            DataError: lengths differ, data empty or not finite, inputs or targets that do not fit the model.
            ProblemError: no model; parameters that are not real floats; a model or loss that JAX cannot trace; a loss
                that is not one number per row, or mixes rows.
            ArgumentError: unknown loss or kernel, l2 negative or not finite, or both l2 and regulariser.
        """
        model = contracts.checked_model(model)
        given: dict[str, Any] = {"loss": loss, "regulariser": regulariser, "kernel_choice": kernel_choice}
        if dtype is not None:
            with jax.enable_x64(True) if np.dtype(dtype) == np.float64 else nullcontext():
                model = replace(model, params=contracts.in_dtype(model.params, dtype))
                params = None if params is None else contracts.in_dtype(params, dtype)
                x, y = contracts.in_dtype(x, dtype), contracts.in_dtype(y, dtype)
                return cls.from_model(model, x, y, l2=l2, params=params, chunk=chunk, **given)
        if l2 == "auto":
            return cls._by_held_out_loss(model, x, y, params=params, chunk=chunk, **given)
        check_kernel_choice(kernel_choice)
        contracts.check_chunk(chunk)
        parts = parts_of(model, x, y, loss=loss, l2=l2, regulariser=regulariser, params=params)
        return cls(model=model, chunk=chunk, kernel_choice=kernel_choice, **parts._asdict())

    @classmethod
    def _by_held_out_loss(cls, model: Model, x: Any, y: Any, **options: Any) -> Problem:
        from jaxland.problem.regularisation import choose_l2

        if options["regulariser"] is not None:
            raise ArgumentError("give either l2 or regulariser, not both")
        choice = choose_l2(cls.from_model(model, x, y, **options))
        return replace(cls.from_model(model, x, y, l2=choice.l2, **options), l2_choice=choice)

    @classmethod
    def from_energy(
        cls,
        energy: Callable[[jax.Array], jax.Array],
        n: int,
        *,
        symmetry: Symmetry | None = None,
        second: Callable[[jax.Array], Any] | None = None,
        dtype: DTypeLike | None = None,
        scale: Scale | None = None,
    ) -> Problem:
        """Any function of n variables, in any units: Mueller-Brown, Lennard-Jones, your own.

        Args:
            energy: ``energy(w[n]) -> scalar``, twice differentiable by JAX.
            n: number of variables.
            symmetry: transformations that leave the energy unchanged, where known.
            second: ``second(w) -> (energy, gradient [n], Hessian [n, n])``; default by automatic differentiation.
            dtype: of the variables, such as "float64", which landscapes need; default JAX's float.
            scale: units of energy and length; default found by ``scale_of``. ``Scale()`` takes every tolerance, step
                and start of a search in your own units.

        Raises:
            ProblemError: the energy cannot be traced, is no scalar, not twice differentiable, computes in float32
                inside, has a gradient that is not finite where the energy is, or is changed by the symmetry.

        >>> wells = Problem.from_energy(lambda w: jnp.sum((w**2 - 1) ** 2), 2)
        >>> wells.hessian(jnp.array([1.0, -1.0])).tolist()
        [[8.0, 0.0], [0.0, 8.0]]
        """
        if int(n) != n or n < 1:
            raise ArgumentError(f"n must be an integer, at least 1, got {n}")
        wide = dtype is not None and np.dtype(dtype) == np.float64
        with jax.enable_x64(True) if wide else nullcontext():
            start = jnp.zeros((int(n),), None if dtype is None else np.dtype(dtype))
            check_energy(energy, int(n), start.dtype, second)
            check_symmetry(energy, int(n), start.dtype, symmetry or NoSymmetry())
            return cls(start, plain=energy, symmetry=symmetry or NoSymmetry(), second=second, scale=scale)

    # -- flat view ---------------------------------------------------------------------------------------------

    @cached_property
    def _flat(self) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
        with self.precision():
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
        with self.precision():
            return ravel_pytree(params)[0]

    def unravel(self, w: Float[Array, " N"]) -> PyTree:
        """Flat vector to pytree."""
        with self.precision():
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
        """The same problem standing at other parameters (flat vector or pytree).

        Raises:
            ArgumentError: neither so many numbers nor a pytree of the parameters' shapes.
            DataError: a parameter is not finite.
        """
        with self.precision():
            params = contracts.standing_at(w, self.params, self.dtype, self.unravel)
            return replace(self, params=params, programs=self._programs)

    def with_data(self, x: Any, y: Any) -> Problem:
        """The same model and loss over other data.

        Raises:
            DataError: as ``from_model``.
        """
        with self.precision():
            x, y = checked_rows(x, y)
            if self.model is not None and self.loss_name is not None:
                y = check_targets(self.loss_name, y, contracts.output_shapes(self.model, self.params, x))
            return replace(self, x=x, y=y)

    def astype(self, dtype: Any) -> Problem:
        """The same problem with parameters and data in another precision (labels stay integers)."""
        from jaxland.core.solvers.precision import cast

        return replace(self, params=cast(self.params, dtype), x=cast(self.x, dtype), y=cast(self.y, dtype))

    # -- pure functions of (w, data): static under jit, data as an argument -------------------------------------

    @property
    def energy_of(self) -> Callable[[jax.Array, tuple[Any, Any]], jax.Array]:
        """Pure ``(w[N], data) -> L(w)``."""
        return self.compiled("energy_of", self._energy_of)

    def _energy_of(self) -> Callable[[jax.Array, tuple[Any, Any]], jax.Array]:
        if (plain := self.plain) is not None:
            return lambda w, data: plain(w)
        if self.loss is None:
            raise ProblemError("the problem has neither per-example losses nor a plain energy")
        return evaluation.mean_loss(self.loss, self.regulariser, self._flat[1], self.chunk)

    @property
    def losses_of(self) -> Callable[[jax.Array, Any, Any], jax.Array]:
        """Pure ``(w[N], x, y) -> per-example losses [n]``, without the regulariser."""
        if self.loss is None:
            raise ProblemError("this problem is a plain energy: it has no per-example losses")
        unravel, loss = self._flat[1], self.loss
        return self.compiled("losses_of", lambda: lambda w, x, y: loss(unravel(w), x, y))

    @property
    def outputs_of(self) -> Callable[[jax.Array, Any], jax.Array]:
        """Pure ``(w[N], x) -> model outputs``."""
        if self.model is None:
            raise ProblemError("this problem has no model: build it with Problem.from_model")
        unravel, apply = self._flat[1], self.model.apply
        return self.compiled("outputs_of", lambda: lambda w, x: apply(unravel(w), x))

    @property
    def kernel(self) -> kernels.Kernel:
        """Energy, gradient and Hessian for solvers, as ``kernel_choice`` has it."""
        with self.precision():
            return self.compiled("kernel", lambda: chosen_kernel(self))

    # -- conveniences (jitted once per problem) -------------------------------------------------------------------

    def _program(self, name: str) -> Any:
        def make() -> Callable[..., jax.Array]:
            match name:
                case "losses":
                    return jax.jit(self.losses_of)
                case "outputs":
                    return jax.jit(self.outputs_of)
            return evaluation.program(name, self.energy_of)

        return self.compiled(("problem", name), make)

    def _run(self, name: str, *arguments: Any) -> Any:
        with self.precision():
            return self._program(name)(*arguments)

    def _vector(self, w: Any) -> Any:
        """w as a vector; None: where the problem stands."""
        with self.precision():
            return self.w if w is None else contracts.vector_of(w, self.size, self.dtype)

    def _points(self, x: Any) -> Any:
        """x as rows like those of the training data; None: those."""
        with self.precision():
            return self.x if x is None else contracts.rows_like(x, self.x)

    def energy(self, w: Any = None) -> jax.Array:
        """L(w), a scalar."""
        return self._run("energy", self._vector(w), self.data)

    def gradient(self, w: Any = None) -> Float[Array, " N"]:
        """Gradient of L at w."""
        return self._run("gradient", self._vector(w), self.data)

    def hvp(self, w: Any, v: Any) -> Float[Array, " N"]:
        """Hessian of L at w times v, forward over reverse."""
        return self._run("hvp", self._vector(w), self._vector(v), self.data)

    def hessian(self, w: Any = None) -> Float[Array, "N N"]:
        """Hessian of L at w (symmetric, N x N): for small N."""
        return self._run("hessian", self._vector(w), self.data)

    def losses(self, w: Any = None, x: Any = None, y: Any = None) -> Float[Array, " n"]:
        """Per-example losses on the training data, or on (x, y)."""
        if (x is None) != (y is None):
            raise ArgumentError("losses needs both x and y, or neither")
        with self.precision():
            rows = self.data if x is None else (self._points(x), as_arrays("y", y))
        return self._run("losses", self._vector(w), *rows)

    def predict(self, w: Any = None, x: Any = None) -> Any:
        """Model outputs [n, ...] (or a pytree of them) on the training data, or on x."""
        return self._run("outputs", self._vector(w), self._points(x))


def required(given: object, caller: str) -> Problem:
    """The problem.

    Raises:
        ProblemError: it is none, such as a model without its data.
    """
    if isinstance(given, Problem):
        return given
    how = "Problem.from_model(model, x, y)" if isinstance(given, Model) else "Problem.from_model or from_energy"
    raise ProblemError(f"{caller} takes a Problem, got {type(given).__name__}: build it with {how}")
