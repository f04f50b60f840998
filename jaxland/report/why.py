"""The section of a report on one prediction: what all four systems say of it, and where they contradict it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from jaxland.report.figures import PALETTE, canvas
from jaxland.report.html import Page
from jaxland.report.questions import WHY
from jaxland.report.words import listed, number
from jaxland.why import Why


def why_section(page: Page, found: Why) -> None:
    """One row: the prediction in one sentence, then inputs, training rows, other networks, and the data."""
    page.section(f"{WHY} {found.called} {found.row}?")
    sentence, doubt = verdict(found)
    page.headline(sentence, refused=doubt)
    page.text(f"{found.called.capitalize()} {found.row} of the table: it {_was(found)}.")
    page.answers((q, a, e, "", d) for q, a, e, d in reasons(found))
    nats = ", in nats" if len(found.outputs) > 1 else ""
    page.figure(
        moved_figure(found),
        f"What each column adds to the {found.of}, against the average training row (integrated gradients{nats}). "
        f"All together: {number(found.above)}; the sum misses {number(abs(found.gap), 2)}.",
    )
    page.table(found.inputs().head(12), "The columns that moved the prediction most, with the row's values.")
    page.table(
        found.training_rows(),
        f"Training rows whose removal changes the {found.explanation.influence.of} most, to first order.",
    )
    frame = found.evidence()
    told = f"share of {found.said}" if len(found.outputs) > 1 else f"mean {found.outputs[0]}"
    page.table(
        frame,
        "What the training data know without the network. Information on the target in "
        f"{found.information.units}, ± over bootstraps, beside what shuffled rows give. Among them, at the "
        f"average: {told} in the rows alike in that column, ± its standard error, and in those nearest its average "
        "(of a coded column: in all rows).",
    )


def _was(found: Why) -> str:
    """What the row was to the network, after "it"."""
    if found.where == "trained the network":
        return "trained the network, which has seen the answer"
    return f"was {found.where}"


def verdict(found: Why) -> tuple[str, bool]:
    """One sentence, and whether the prediction is in doubt."""
    doubts = [answer for _, answer, _, doubt in reasons(found) if doubt]
    if len(found.outputs) > 1:
        said = f"Predicted {found.said} ({float(found.prediction.max()):.0%})"
    else:
        said = f"Predicted {found.outputs[0]} {found.said}"
    said += f", in truth {found.truth}"
    order = np.argsort(-np.abs(found.moved), kind="stable")[:6]
    ups = [found.columns[s] for s in order if found.moved[s] > 0][:3]
    downs = [found.columns[s] for s in order if found.moved[s] < 0][:3]
    because, despite = ("because of", "despite") if len(found.outputs) > 1 else ("raised by", "lowered by")
    said += f": {because} {listed(ups)}" if ups else ""
    said += f"{', ' if ups else ': '}{despite} {listed(downs)}" if downs else ""
    if not doubts:
        wrong = len(found.outputs) > 1 and found.said != found.truth
        return f"{said}. No system doubts it{', and yet it is wrong' if wrong else ''}.", wrong
    lowered = [d[0].lower() + d[1:].rstrip(".") for d in doubts]
    return f"{said}. But {'; '.join(lowered)}.", True


def reasons(found: Why) -> list[tuple[str, str, str, bool]]:
    """(question, answer, evidence, doubt) of each system."""
    return [_others(found), *_rests(found), *_data(found)]


def _others(found: Why) -> tuple[str, str, str, bool]:
    n = found.networks
    low, mid, high = np.quantile(n.values, [0.05, 0.5, 0.95])
    evidence = (
        f"over the {n.count:,} minima found the prediction is {number(mid)}, nine in ten between {number(low)} and "
        f"{number(high)}; {number(n.lowest)} at the lowest"
    )
    question = "Do the other good networks say the same? (landscape)"
    if n.count == 1:
        return question, "There is no other network.", "only one minimum is known", True
    if np.isnan(n.agreeing):
        least, most = (float(v[0]) for v in found.explanation.uncertainty.interval(0.9))
        near = float(np.mean((n.values >= least) & (n.values <= most)))
        told = f"{near:.0%} of the networks predict within what resampling the rows moves the best one."
        return question, told, f"{evidence}; resampling: {number(least)} to {number(most)}", near < 0.8
    doubt = n.agreeing < 0.8
    return question, f"{n.agreeing:.0%} of the networks agree.", evidence, doubt


def _rests(found: Why) -> list[tuple[str, str, str, bool]]:
    explained, (unsure, outside) = found.explanation, found.standing
    u, e = explained.uncertainty, explained.extrapolation
    low, high = (float(v[0]) for v in u.interval(0.9))
    turns = explained.could_turn()
    wide = turns is not None and bool(turns[0])
    keeps = "Resampling the training rows keeps it."
    if turns is None:
        keeps = f"Between {number(low)} and {number(high)} when the training rows are resampled."
    how = (
        f"{u.of} {number(float(u.value[0]))} ± {number(float(u.std[0]), 2)} when the training rows are resampled, "
        f"90 % between {number(low)} and {number(high)}; less sure than {unsure:.0%} of {len(u.value) - 1} other rows"
    )
    where = f"extrapolation score {number(float(e.scores[0]))}, higher than that of {outside:.0%} of other rows"
    notes = f"; {explained.curvature.warnings[0]}" if explained.curvature.warnings else ""
    return [
        (
            "How sure is it? (Hessian)",
            "Resampling the training rows may turn it over." if wide else keeps,
            how + notes,
            wide,
        ),
        (
            "Does it extrapolate? (Hessian)",
            "The training rows say little of such rows." if outside >= 0.95 else "No more than other rows.",
            where,
            outside >= 0.95,
        ),
    ]


def _data(found: Why) -> list[tuple[str, str, str, bool]]:
    """Whether the data bear out the direction in which the leading columns moved the prediction."""
    against: list[str] = []
    borne: list[str] = []
    open_: list[str] = []
    sign = dict(zip(found.columns, np.sign(found.moved)))
    for a in found.alike[:4]:
        gap, error = (a.mean - a.usual) * sign[a.column], float(np.hypot(a.error, a.usual_error))
        if not np.isfinite(error) or abs(gap) <= 2 * error:
            open_.append(a.column)
        else:
            (borne if gap > 0 else against).append(a.column)
    parts = [f"borne out: {listed(borne)}"] if borne else []
    parts += [f"opposite: {listed(against)}"] if against else []
    parts += [f"cannot be told (within two standard errors): {listed(open_)}"] if open_ else []
    question = "Do the data bear the inputs out? (trim against information)"
    if against:
        said = f"Rows alike in {listed(against)} turned out the other way."
        return [(question, said, "; ".join(parts), True)]
    if not borne:
        return [(question, "They do not tell, column by column.", "; ".join(parts), False)]
    return [(question, f"Yes, {listed(borne)}.", "; ".join(parts), False)]


def moved_figure(found: Why, most: int = 12) -> Figure:
    """Bars: what each column adds; red raises, blue lowers."""
    order = np.argsort(-np.abs(found.moved), kind="stable")[:most][::-1]
    figure, axes = canvas(6.4, float(np.clip(0.27 * len(order) + 0.9, 1.6, 6.0)))
    axes.barh(
        np.arange(len(order)),
        found.moved[order],
        color=[PALETTE[0] if v > 0 else PALETTE[1] for v in found.moved[order]],
        height=0.7,
    )
    axes.set_yticks(np.arange(len(order)), [f"{found.columns[s]} = {found.values[s]}" for s in order], fontsize=8.5)
    axes.axvline(0, color="#1c2430", lw=0.8)
    axes.set_xlabel(f"adds to the {found.of}")
    return figure
