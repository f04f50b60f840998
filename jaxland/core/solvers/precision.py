"""Search in float32, polish and verify in float64.

A float32 quench ends where its energy no longer falls by more than rounding, some way above the tolerance of a stored
minimum. A float64 Newton finish from there needs a few Hessians, and the index is counted in float64 alone. It pays
where float32 is much faster than float64 (GPU, TPU; a TPU has no float64 at all: there the polish runs on the host).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from jaxland.core.energy.kernels import Kernel
from jaxland.core.solvers import lanes, quench
from jaxland.core.solvers.batches import map_rows
from jaxland.core.solvers.protocol import Layout, Solver, Status

# Parameters up to which the polish takes exact Hessians; beyond, quasi-Newton in float64.
_EXACT = 450


class Polished(NamedTuple):
    """A minimum verified in float64.

    Attributes:
        x: coordinates [N], float64; energy; rms: rms gradient; lowest: lowest Hessian eigenvalue.
        single: evaluations in float32; double: evaluations in float64, the verification included.
    """

    x: Float[np.ndarray, " N"]
    energy: float
    rms: float
    lowest: float
    single: int
    double: int


@dataclass(frozen=True)
class Plan:
    """What is done in which precision, and where.

    Attributes:
        rough: rms gradient at which float32 hands over; tol: rms gradient of a minimum.
        zero: Hessian eigenvalues above -zero are not negative.
        host: polish on the host's CPU, whatever the default device is.
    """

    rough: float = 3e-5
    tol: float = 1e-9
    zero: float = 1e-8
    host: bool = False

    @classmethod
    def for_backend(cls, tol: float = 1e-9) -> Plan:
        """The default plan of the default backend: a TPU polishes on the host."""
        return cls(tol=tol, host=jax.default_backend() == "tpu")

    def describe(self) -> str:
        """One sentence for reports."""
        where = "on the host" if self.host else "on the device"
        rough, tol = f"{self.rough:g}", f"{self.tol:g}"
        return f"float32 search to rms {rough}, float64 polish {where} to rms {tol}, index counted in float64"


def cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    """The tree with its floating-point leaves in another precision; labels and masks as they are."""
    return jax.tree.map(
        lambda a: jnp.asarray(a, dtype) if jnp.issubdtype(jnp.asarray(a).dtype, jnp.floating) else jnp.asarray(a),
        tree,
    )


@lru_cache(maxsize=32)
def _verify(second: Callable) -> Callable:
    def verify(x: Float[Array, " N"], data: PyTree) -> tuple[jax.Array, jax.Array, jax.Array]:
        values = second(x, data)
        return values.energy, quench.rms(values.gradient), jnp.linalg.eigvalsh(values.hessian)[0]

    return verify


def quench_mixed(
    search: Kernel,
    polish: Kernel,
    starts: Sequence[np.ndarray] | Float[np.ndarray, "B N"],
    *,
    plan: Plan | None = None,
    max_step: float = 1.0,
    layout: Layout | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Polished | None]:
    """The minimum below each start [N], searched in float32 and verified in float64; None where there is none.

    Args:
        search: kernel of the energy in float32 (``Problem.astype("float32").kernel``).
        polish: kernel of the same energy in float64.
        starts: coordinates, any precision.
        plan: see ``Plan``; default by backend.
        max_step: longest step of the search.
        layout: of the lanes; default by backend.
        should_stop: asked between blocks.

    Raises:
        ValueError: float64 is not enabled.
    """
    if jnp.result_type(float) != np.float64:
        raise ValueError("the polish needs float64: call it inside `with jax.enable_x64(True):`")
    plan = plan or Plan.for_backend()
    out: list[Polished | None] = [None] * len(starts)
    if not len(starts):
        return out
    size = len(starts[0])
    # Not converged is good enough here: float32 stalls where its energy stops falling.
    usable = (Status.CONVERGED, Status.STALLED, Status.MAX_STEPS)
    run = partial(lanes.run, layout=layout, should_stop=should_stop)
    rough = [quench.Start(np.asarray(x, np.float32), np.float32(max_step)) for x in starts]
    first: Solver = quench.BFGS(plan.rough, 2000) if size <= 1500 else quench.LBFGS(plan.rough, 20_000)
    found = [o for o in run(first, search.first, rough, search.data) if o.status in usable]
    exact = size <= _EXACT
    last: Solver = quench.Newton(plan.tol, 200, zero=plan.zero) if exact else quench.LBFGS(plan.tol, 50_000)
    items = [quench.Start(np.asarray(o.result.x, np.float64), np.float64(max_step)) for o in found]
    device = jax.local_devices(backend="cpu")[0] if plan.host else None
    with jax.default_device(device):
        data = jax.device_put(polish.data, device) if plan.host else polish.data
        evaluate = polish.second if exact else polish.first
        ends = run(last, evaluate, items, data)
        good = [o for o in ends if o.status == Status.CONVERGED]
        rows = map_rows(_verify(polish.second), [o.result.x for o in good], data)
    for end, (energy, rms, lowest) in zip(good, rows):
        if rms <= plan.tol and lowest >= -plan.zero and np.isfinite(energy):
            start = found[end.job]
            counts = int(start.result.evaluations), int(end.result.evaluations) + 1
            out[start.job] = Polished(np.asarray(end.result.x), float(energy), float(rms), float(lowest), *counts)
    return out
