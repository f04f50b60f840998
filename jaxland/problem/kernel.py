"""What evaluates a problem for solvers: closed form, autodiff, or a fused Pallas kernel."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jaxland.core.energy import kernels
from jaxland.core.energy.chunked import chunked
from jaxland.core.energy.one_hidden import one_hidden
from jaxland.errors import ArgumentError
from jaxland.models.mlp import ACTIVATIONS
from jaxland.problem.losses import L2

if TYPE_CHECKING:
    from jaxland.problem.problem import Problem

_LANE_BYTES = 2**29
# Numbers of a chunk of rows that stay in a core's cache: 1,000 rows of 23 inputs and 8 hidden units. All 21,000 at
# once take twice the time of a gradient and three times that of a Hessian.
_CACHED = 48_000
# Rows that a Hessian in closed form takes at a time on an accelerator, where thousands stand side by side: of 21,000
# rows at once (23 inputs, 8 hidden units) each holds 23 MB, of 2,048 at a time 2.2 MB.
_PIECE = 2048
KERNEL_CHOICES = ("auto", "xla", "fused")
# Losses whose second derivatives are written out.
CLOSED_FORM = ("cross_entropy", "squared_error")


def check_kernel_choice(choice: str) -> None:
    """Raise ``ArgumentError`` unless the choice is known."""
    if choice not in KERNEL_CHOICES:
        raise ArgumentError(f"kernel_choice {choice!r} is unknown; choose one of {', '.join(KERNEL_CHOICES)}")


def chosen_kernel(problem: Problem) -> kernels.Kernel:
    """Energy, gradient and Hessian, as ``problem.kernel_choice`` has it.

    Raises:
        ArgumentError: the choice is unknown, or no fused kernel serves the problem.
    """
    choice = problem.kernel_choice
    check_kernel_choice(choice)
    base = xla_kernel(problem)
    # Interpreted on a CPU, it can only be slower there.
    if choice == "xla" or (choice == "auto" and jax.default_backend() == "cpu"):
        return base
    from jaxland.core.pallas.trial import is_faster

    why = _no_dense_network(problem)
    made = why or _fused_kernel(problem, base)
    if isinstance(made, str):
        if choice == "fused":
            raise ArgumentError(f"no fused kernel for this problem: {made}; use kernel_choice='xla'")
        return base
    key = (made.name, problem.model and problem.model.sizes, problem.loss_name, problem.n)
    if choice == "auto" and not is_faster(made, base, problem.size, problem.dtype, key):
        return base
    return made


def _no_dense_network(problem: Problem) -> str | None:
    """Why no fused kernel serves the problem, whatever its widths; None where one may."""
    if problem.model is None or problem.model.sizes is None or problem.loss_name is None:
        return "it serves dense networks (jaxland.mlp) with a built-in loss"
    if problem.chunk is not None or jnp.ndim(problem.x) != 2:
        return "it serves data [n, d] without chunks"
    if not (problem.regulariser is None or isinstance(problem.regulariser, L2)):
        return "it serves no regulariser but L2"
    return None


def _fused_kernel(problem: Problem, base: kernels.Kernel) -> kernels.Kernel | str:
    """A thread a network where its weights fit registers, tiles of points beyond and on a TPU; or why none is."""
    from jaxland.core.pallas import fused
    from jaxland.core.pallas.dense import choose, dense_kernel

    model, reg = problem.model, problem.regulariser
    assert model is not None and model.sizes is not None and problem.loss_name is not None
    lam = reg.lam if isinstance(reg, L2) else 0.0
    x, activation = jnp.asarray(problem.x, problem.dtype), model.activation or "identity"
    backend = jax.default_backend()
    if backend != "tpu":
        target = "triton" if backend == "gpu" else "interpret"
        shape = choose(model.sizes, activation, problem.loss_name, lam, problem.dtype.itemsize, target)
        if not isinstance(shape, str):
            return dense_kernel(shape, base, x, problem.y)
    why = fused.supports(model.sizes, activation, problem.loss_name)
    if why:
        return why
    return fused.kernel(
        fused.shape_for(model.sizes, activation, problem.loss_name, lam, problem.n), base, x, problem.y
    )


def _chunk(problem: Problem) -> int | None:
    """Rows at a time: the problem's, what keeps a Hessian within ``_LANE_BYTES``, or a core's cache; None: all."""
    fit = max(1, _LANE_BYTES // (3 * problem.size * problem.dtype.itemsize))
    chunk = problem.chunk or (fit if problem.n > fit else None)
    if chunk is None and jax.default_backend() == "cpu" and problem.model is not None and problem.model.sizes:
        each = sum(problem.model.sizes[:-1]) + 2 * problem.model.sizes[1]
        cached = max(128, _CACHED // each)
        chunk = cached if problem.n > 2 * cached else None
    return None if chunk is None or chunk >= problem.n else chunk


def xla_kernel(problem: Problem) -> kernels.Kernel:
    """In closed form where the problem allows it, else by autodiff."""
    model, reg = problem.model, problem.regulariser
    if (
        model is not None
        and model.sizes is not None
        and len(model.sizes) == 3
        and problem.loss_name in CLOSED_FORM
        and (reg is None or isinstance(reg, L2))
        and jnp.asarray(problem.x).ndim == 2
    ):
        chunk, lam = _chunk(problem), 0.0 if reg is None else reg.lam
        make = partial(
            one_hidden,
            model.sizes,
            ACTIVATIONS[model.activation or "identity"],
            problem.loss_name,
            x=jnp.asarray(problem.x, problem.dtype),
            y=problem.y,
            is_tanh=model.activation == "tanh",
        )
        if chunk:
            return chunked(make(lam=0.0), problem.n, chunk, lam)
        kernel = make(lam=lam)
        if jax.default_backend() == "cpu" or problem.n <= _PIECE:
            return kernel
        pieces = chunked(make(lam=0.0), problem.n, _PIECE, lam)
        return kernels.beside(pieces, kernel.first, kernel.product, kernel.data, kernel.name)
    if problem.second is not None:
        kernel = kernels.closed_form(problem.second, problem.data, problem.size)
    else:
        kernel = kernels.autodiff(
            problem.energy_of, problem.data, problem.size, 2.0 * max(problem.n, 1) * problem.size
        )
    zero_space = getattr(problem.symmetry, "zero_space", None)
    return kernel if zero_space is None else kernels.lifted(kernel, zero_space)
