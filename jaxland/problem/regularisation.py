"""The weight of the regulariser by held-out loss: which lam * sum(w^2) makes networks that predict new rows.

A landscape belongs to its lam: too small and it is a glass of overfitted minima, too large and one minimum is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.core.energy.kernels import Values
from jaxland.core.solvers import lanes, quench
from jaxland.core.solvers.protocol import Layout, Status
from jaxland.errors import ArgumentError

if TYPE_CHECKING:
    import pandas as pd

    from jaxland.problem.problem import Problem

GRID = (1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1)
HELD = 0.25  # of the rows
_STARTS, _LOOSE, _MOST = 4, 1e-5, 1000


@dataclass(frozen=True)
class L2Row:
    """What one lam gave.

    Attributes:
        l2: lam.
        held_out: median over the quenches of the mean loss on held-out rows, without the regulariser.
        lowest, highest: of that loss among the quenches.
        trained: median loss on the rows trained on, without the regulariser.
        arrived, quenches: how many reached rms gradient 1e-5 within 1,000 gradients, and of how many.
    """

    l2: float
    held_out: float
    lowest: float
    highest: float
    trained: float
    arrived: int
    quenches: int


@dataclass(frozen=True)
class L2Choice:
    """A chosen lam, and the table it was chosen from.

    Attributes:
        l2: the lam of least median held-out loss (of equal ones the largest).
        table: one row per lam that was tried, ascending.
        rows: trained on; held_out: rows kept for the choice.
    """

    l2: float
    table: tuple[L2Row, ...]
    rows: int
    held_out: int

    def describe(self) -> list[str]:
        """The choice and its table, a line each."""
        lines = [
            f"L2 weight {self.l2:g}: least loss on {self.held_out:,} held-out rows, of {len(self.table)} weights "
            f"with {self.table[0].quenches} quenches each on {self.rows:,} rows"
        ]
        for row in self.table:
            mark = " <- chosen" if row.l2 == self.l2 else ""
            late = row.quenches - row.arrived
            lines.append(
                f"  {row.l2:<7g} held out {row.held_out:.4f} ({row.lowest:.4f} to {row.highest:.4f}), "
                f"trained {row.trained:.4f}{f', {late} cut off' if late else ''}{mark}"
            )
        if self.l2 in (self.table[0].l2, self.table[-1].l2):
            lines.append("  the chosen weight is at the end of those tried: give --l2 to look beyond")
        return lines

    def to_pandas(self) -> pd.DataFrame:
        """A row per lam."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.table])


def choose_l2(
    problem: Problem,
    *,
    grid: tuple[float, ...] = GRID,
    starts: int = _STARTS,
    seed: int = 0,
    held: np.ndarray | None = None,
    layout: Layout | None = None,
) -> L2Choice:
    """The lam of least held-out loss, by a few quenches each from the same random starts.

    Args:
        problem: over rows, with ``L2`` or no regulariser (its weight does not matter).
        grid: weights to try.
        starts: quenches of each, from standard normal weights.
        seed: of the held-out quarter of the rows, and of the starts.
        held: rows to hold out instead, where rows belong together.
        layout: of the lanes.

    Raises:
        ArgumentError: the problem has no rows, or too few (8).
    """
    if problem.loss is None or problem.n < 8:
        raise ArgumentError(f"l2='auto' needs rows to hold out: at least 8, got {problem.n}")
    rng = np.random.default_rng([seed, 14])
    order = rng.permutation(problem.n)
    held = np.sort(order[: int(HELD * problem.n)] if held is None else held)
    kept = np.setdiff1d(order, held)
    train, test = (problem.with_data(*jax.tree.map(lambda a, i=i: a[i], problem.data)) for i in (kept, held))
    points = rng.normal(size=(starts, problem.size)).astype(problem.dtype)
    solver = quench.BFGS(_LOOSE, _MOST) if problem.size <= 1500 else quench.LBFGS(_LOOSE, _MOST)
    items = [quench.Start(x, np.asarray(1.0, problem.dtype)) for x in points]
    kernel = replace(train, regulariser=None, programs={}).kernel
    evaluate = _with_l2(kernel.first)
    table = []
    for lam in sorted(grid):
        with problem.precision():
            # The weight is data: one program serves all.
            data = (kernel.data, jnp.asarray(lam, problem.dtype))
            ended = lanes.run(solver, evaluate, items, data, layout=layout)
            losses = np.array([[_mean(part, o.result.x) for part in (test, train)] for o in ended])
        losses = np.where(np.isfinite(losses), losses, np.inf)
        table.append(
            L2Row(
                l2=float(lam),
                held_out=float(np.median(losses[:, 0])),
                lowest=float(losses[:, 0].min()),
                highest=float(losses[:, 0].max()),
                trained=float(np.median(losses[:, 1])),
                arrived=sum(o.status == Status.CONVERGED for o in ended),
                quenches=len(ended),
            )
        )
    best = min(table, key=lambda row: (row.held_out, -row.l2))
    return L2Choice(best.l2, tuple(table), len(kept), len(held))


@lru_cache(maxsize=8)
def _with_l2(first: Callable[..., Values]) -> Callable[[jax.Array, Any], Values]:
    def evaluate(w: jax.Array, data: Any) -> Values:
        values, lam = first(w, data[0]), data[1]
        return Values(values.energy + lam * jnp.sum(w * w), values.gradient + 2.0 * lam * w)

    return evaluate


def _mean(problem: Problem, w: Any) -> float:
    """Mean loss without the regulariser."""
    return float(jnp.mean(problem.losses(jnp.asarray(w))))
