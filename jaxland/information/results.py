"""What an estimate says: the number, its error, and everything needed to doubt it."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxland.core.mixture import Mixture
from jaxland.information.estimate import Estimate
from jaxland.information.options import Options
from jaxland.options import spoken
from jaxland.showing import brief


@dataclass(frozen=True, eq=False)
class MutualInformation:
    """An information quantity with its error; numbers in ``units``.

    Attributes:
        mean: the estimate: the integral of the mixture fitted to all samples. Infinite where one variable is a
            function of the other.
        std: standard deviation over the bootstraps, with the integration error added in squares; ``model_error``
            where that is larger.
        model_error: what held-out samples say against the fit, in ``units`` (see the documentation).
        samples: the bootstraps' values [B]; ``bootstrap_mean`` and ``corrected`` = 2 mean - bootstrap_mean follow.
        integration_error: standard error of the integral behind ``mean``.
        null: values with the second variable shuffled [Q]: what these samples would give without dependence.
        components: of the mixture; order: how many were asked for.
        map: "raw" or "scores", the coordinates of the fit; evidence: held-out Donsker-Varadhan value of each, nats.
        history: held-out log-likelihood (or criterion) per number of components.
        dropped: components that collapsed and were taken out, over all fits behind the numbers.
        unconverged: fits that ran out of steps or degenerated; steps: EM evaluations of the full fit and bootstraps.
        ksg: nearest-neighbour estimate of the same quantity, a check (nan where not asked for).
        n: samples; names: of the variables; quantity: what was estimated; notes: what to be careful about.
        mixture: the fit, in the coordinates of ``coordinates`` ([d, N] for each variable).
    """

    mean: float
    std: float
    samples: Float[np.ndarray, " b"]
    model_error: float
    integration_error: float
    null: Float[np.ndarray, " q"]
    components: int
    order: int
    map: str
    evidence: dict[str, float]
    history: dict[int, float]
    dropped: int
    unconverged: int
    steps: int
    ksg: float
    n: int
    names: tuple[str, ...]
    quantity: str
    units: str
    notes: tuple[str, ...] = ()
    mixture: Mixture | None = field(default=None, repr=False)
    coordinates: tuple[np.ndarray, ...] = field(default=(), repr=False)

    __repr__ = brief

    @property
    def bootstrap_mean(self) -> float:
        """Mean of the bootstraps."""
        return float(np.mean(self.samples)) if len(self.samples) else float("nan")

    @property
    def corrected(self) -> float:
        """The estimate less its bootstrap bias, 2 mean - bootstrap_mean."""
        return 2.0 * self.mean - self.bootstrap_mean

    @property
    def null_mean(self) -> float:
        """Mean over the shuffles."""
        return float(np.mean(self.null)) if len(self.null) else float("nan")

    @property
    def null_std(self) -> float:
        """Standard deviation over the shuffles."""
        return float(np.std(self.null, ddof=1)) if len(self.null) > 1 else float("nan")

    @property
    def label(self) -> str:
        """I(x; y), I(x; y | z) or KL(x || y)."""
        first, *rest = self.names
        if self.quantity == "KL":
            return f"KL({first} || {rest[0]})"
        return f"I({first}; {' | '.join(rest)})"

    @property
    def significance(self) -> float:
        """(mean - null_mean) / sqrt(std^2 + null_std^2): standard deviations above no dependence."""
        spread = np.hypot(self.std, np.nan_to_num(self.null_std))
        return float((self.mean - self.null_mean) / spread) if spread > 0 else float("nan")

    def row(self) -> dict[str, str | float]:
        """One line of a table."""
        return {
            "x": self.names[0],
            "y": self.names[1],
            "mean": self.mean,
            "std": self.std,
            "corrected": self.corrected,
            "bootstrap_mean": self.bootstrap_mean,
            "null_mean": self.null_mean,
            "null_std": self.null_std,
            "significance": self.significance,
            "ksg": self.ksg,
            "components": self.components,
            "map": self.map,
            "model_error": self.model_error,
            "integration_error": self.integration_error,
            "dropped": self.dropped,
            "unconverged": self.unconverged,
            "n": self.n,
            "units": self.units,
            "notes": "; ".join(self.notes),
        }

    def to_pandas(self) -> pd.DataFrame:
        """One row."""
        return pd.DataFrame([self.row()])

    def __str__(self) -> str:
        return f"{self.label} = {self.mean:.4f} ± {self.std:.4f} {self.units}"

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        table = self.to_pandas().drop(columns=["x", "y", "notes", "units"]).to_html(index=False, float_format="%.4g")
        return f"<b>{html.escape(str(self))}</b>{table}<ul>{lines}</ul>"


def result_of(
    estimate: Estimate,
    options: Options,
    *,
    names: tuple[str, ...],
    quantity: str,
    n: int | None = None,
    notes: tuple[str, ...] = (),
    ksg: float = float("nan"),
) -> MutualInformation:
    """The public result of an estimate, in the units asked for, with the notes its numbers call for."""
    unit = options.unit
    b = estimate.samples
    spread = float(np.std(b, ddof=1)) if len(b) > 1 else float("nan")
    sampling = float(np.hypot(spread, estimate.integration_error))
    std = max(sampling, estimate.model_error) if len(b) > 1 else float("nan")
    found = MutualInformation(
        mean=estimate.value * unit,
        std=std * unit,
        model_error=estimate.model_error * unit,
        samples=b * unit,
        integration_error=estimate.integration_error * unit,
        null=np.asarray(estimate.null) * unit,
        components=estimate.components,
        order=estimate.order,
        map=estimate.map,
        evidence=estimate.evidence,
        history=estimate.history,
        dropped=estimate.dropped,
        unconverged=estimate.unconverged,
        steps=estimate.steps,
        ksg=ksg * unit,
        n=estimate.coordinates[0].shape[1] if n is None else n,
        names=names,
        quantity=quantity,
        units=options.units,
        mixture=estimate.mixture,
        coordinates=estimate.coordinates,
    )
    return replace(found, notes=(*notes, *_cautions(found, estimate, options)))


def _cautions(found: MutualInformation, estimate: Estimate, options: Options) -> Iterator[str]:
    """What the numbers themselves call for."""
    if len(estimate.samples) < 2:
        yield f"no error: it takes {spoken('bootstraps')} of at least 2"
    if estimate.at_limit:
        raise_it = f"raise {spoken('orders')}"
        yield f"the largest number of components tried ({estimate.order}) was still the best: {raise_it}"
    if estimate.dropped:
        yield f"{estimate.dropped} collapsed components were dropped over all fits"
    if estimate.unconverged:
        yield f"{estimate.unconverged} fits did not converge within {options.max_steps} steps"
    sampling = float(np.std(found.samples, ddof=1)) if len(found.samples) > 1 else float("nan")
    if found.model_error > 2 * sampling:
        held = estimate.evidence.get(found.map, 0.0) * options.unit
        support = (
            f"held-out samples support {held:.4f} {options.units}: " if held and len(estimate.evidence) > 1 else ""
        )
        yield (
            f"{support}the error given is that of the fit, which samples it has not seen disagree with; the "
            f"bootstraps alone give {sampling:.4f}"
        )
    if len(found.null) and found.null_mean >= 0.1 * options.unit:
        yield f"shuffled samples give {found.null_mean:.4f} {options.units}, not 0: the fits do not suit these tails"
    if len(found.null) and found.mean < found.null_mean + 2 * np.hypot(found.std, found.null_std):
        yield f"not distinguishable from shuffled samples ({found.null_mean:.4f} {options.units})"
    if np.isfinite(found.ksg) and abs(found.ksg - found.mean) > 5 * found.std + 0.05 * max(found.mean, options.unit):
        yield f"the nearest-neighbour check gives {found.ksg:.4f}: look at the fitted density"


def infinite(options: Options, *, n: int, names: tuple[str, ...], why: str, ksg: float) -> MutualInformation:
    """The result for variables that determine each other."""
    nothing = np.full(options.bootstraps, np.inf)
    return MutualInformation(
        mean=float("inf"),
        std=float("nan"),
        model_error=float("nan"),
        samples=nothing,
        integration_error=float("nan"),
        null=np.empty(0),
        components=0,
        order=0,
        map="none",
        evidence={},
        history={},
        dropped=0,
        unconverged=0,
        steps=0,
        ksg=ksg * options.unit,
        n=n,
        names=names,
        quantity="I",
        units=options.units,
        notes=(why,),
    )
