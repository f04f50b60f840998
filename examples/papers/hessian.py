"""Dawid, Huembeli, Tomza, Lewenstein & Dauphin 2022: which training states, how sure, how far outside.

Published numbers come out of the published weights and Hessian where ``fermion_chain_cnn.npz`` is present; the
figures come out of networks trained here, on a fermion chain and on an Ising chain, both diagonalised here.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from examples.papers import fermion_chain, ising_chain, phases
from examples.papers.page import Page, shared
from jaxland import hessian
from jaxland.report import figures

ARCHIVE = "fermion_chain_cnn.npz"
NETWORKS = 3  # of our own, for each chain


def chapter(out: Path, small: bool, seed: int) -> Page:
    """The page."""
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore", hessian.CurvatureWarning)  # the page says what they say
    page = Page(
        "hessian",
        out,
        "Hessian toolbox: the phases of two quantum chains",
        "Dawid, Huembeli, Tomza, Lewenstein, Dauphin, *Hessian-based toolbox for reliable and interpretable machine "
        "learning in physics*, Mach. Learn.: Sci. Technol. 3, 015002 (2022), arXiv 2108.02154.",
        small,
        seed,
    )
    page.text(
        "A network is shown ground states of a chain and learns on which side of a phase transition they lie. From "
        "one Hessian of its training loss: which training states a prediction rests on (influence, RelatIF), how "
        "sure it is (resampling uncertainty, RUE), and whether it extrapolates (local ensembles, LEES)."
    )
    chain, steps = fermion_chain.diagram(), 50 if small else 400
    page.section("The published network")
    path = shared(ARCHIVE)
    if path is None:
        page.text(f"`{ARCHIVE}` was not there (`--data FOLDER`), so the published network is left out of this page.")
    else:
        _published(page, fermion_chain.published(path, chain.x, chain.test))
    page.section("The fermion chain, with a network of our own")
    page.text(
        "1,050 ground states of the half-filled spinless extended Fermi-Hubbard chain of 12 sites, diagonalised "
        f"here: Luttinger liquid for V1 < 1, charge-density wave above. The network ({_size(chain)} parameters, "
        f"smooth activations, l2 = {phases.L2:g}) is trained until its gradient is gone: influence assumes that."
    )
    _network(page, chain, steps, seed, small)
    page.section("Beyond the paper: the transverse-field Ising chain")
    ising = ising_chain.diagram()
    energies, _ = ising_chain.ground_states(ising.v_train)
    error = np.abs(energies - ising_chain.exact_energies(ising.v_train)).max()
    page.text(
        "Nothing of the fermion chain is special to the method: 10 spins, ferromagnet for g < 1, paramagnet above, "
        "the transition known exactly (Pfeuty, Ann. Phys. 57, 79, 1970). The diagonalisation's energies differ by "
        f"at most {error:.0e} from the free-fermion sum over {len(energies)} couplings. Same network, same settings."
    )
    _network(page, ising, steps, seed, small)
    return page


def _size(diagram: phases.Diagram) -> int:
    network = phases.Network(diagram.x.shape[1], phases.nnx.Rngs(0))
    return sum(leaf.size for leaf in jax.tree.leaves(phases.nnx.state(network, phases.nnx.Param)))


def _published(page: Page, found: fermion_chain.Published) -> None:
    table = found.table.set_index("damping")
    theirs, mode = table[table["Hessian"] == "published"].iloc[0], table[table["Hessian"] != "published"]
    lees, known = found.lees[1], found.lees[0]
    dropout = "their Hessian had dropout active, and the weights are not stationary"
    close = "" if theirs["influence, correlation"] > 0.9999 else "not understood"
    page.compare(
        [
            ("test states right, of 50", 44, 50 - len(found.wrong), ""),
            ("errors at test states", "21 to 26", f"{min(found.wrong)} to {max(found.wrong)}", ""),
            ("negative eigenvalues of their Hessian, of 740", 99, found.negative, ""),
            ("lowest eigenvalue", -0.182, float(theirs["lowest eigenvalue"]), "theirs, read and factorised again"),
            ("lowest eigenvalue in evaluation mode", None, float(mode["lowest eigenvalue"].iloc[0]), dropout),
            ("influence on state 0, correlation, their Hessian", 1, _text(theirs["influence, correlation"]), close),
            ("RelatIF of state 0, correlation, their Hessian", 1, _text(theirs["RelatIF, correlation"]), close),
            ("influence, evaluation mode, damping .2 (theirs)", 1, _text(mode["influence, correlation"][0.2]),
             "in evaluation mode .2 leaves negative eigenvalues: the inverse means nothing there"),
            ("the same, damping .3", 1, _text(mode["influence, correlation"][0.3]), dropout),
            ("the same, damping 1.2", 1, _text(mode["influence, correlation"][1.2]), dropout),
            ("test state of the largest LEES, threshold .01", int(known.argmax()), int(lees.argmax()), ""),
            ("norm of the loss's gradient at the end of training", "not given", found.gradient_norm,
             "evaluation mode; stationary means 0"),
            ("error bars (RUE)", "stored", "not compared", "a loop fills only the first of their resamples"),
        ],
        "Published numbers are those of the file with the published network (MIT licence).",
    )  # fmt: skip
    page.table(found.table.T.reset_index().rename(columns={"index": ""}).iloc[1:], _legend(found.table))
    page.figure(
        _published_figure(found),
        "published",
        "Influence of all training states on test state 0 and LEES of all test states: published lists (grey), with "
        "the published Hessian (red), in evaluation mode (blue, damping .3).",
    )
    met = theirs["influence, largest difference / largest"]
    page.text(
        f"With the published Hessian the published influence is met to {met:.0e} of its largest value. Whoever "
        "computes the Hessian anew, in evaluation mode, meets a lowest eigenvalue of "
        f"{mode['lowest eigenvalue'].iloc[0]:.3f}, below minus the published damping: look at the lowest eigenvalue "
        "before choosing a damping, switch dropout off, and train to a stationary point."
    )


def _text(value: float) -> str:
    return f"{value:.4f}"


def _legend(table: pd.DataFrame) -> str:
    return "Columns: " + "; ".join(f"{i}: Hessian {name}" for i, name in enumerate(table["Hessian"])) + "."


def _published_figure(found: fermion_chain.Published) -> Figure:
    figure, (left, right) = figures.panels(10, 3.6, ncols=2)
    chain = fermion_chain.V_TEST
    lists = found.influence
    marks = ("published list", "published, damping 0.2", "evaluation mode, damping 0.3")
    for name, colour, size in zip(marks, ("0.6", *figures.PALETTE[:2]), (26, 6, 3)):
        left.scatter(found.couplings, lists[name], s=size, color=colour, linewidths=0, label=name)
    for values, colour, size in zip(found.lees, ("0.6", figures.PALETTE[0]), (7, 3)):
        right.plot(chain, values, "o-", color=colour, markersize=size, linewidth=1)
    for axis, name in ((left, "influence on test state 0"), (right, "LEES, threshold .01")):
        axis.axvline(1, color="0.6", linewidth=0.8, linestyle="--")
        axis.set_xscale("symlog", linthresh=1)
        axis.set(xlabel="$V_1$", ylabel=name, xlim=(-0.02, 42))
    left.legend(frameon=False, loc="lower right", fontsize=8)
    return figure


def _network(page: Page, diagram: phases.Diagram, steps: int, seed: int, small: bool) -> None:
    """Train on a diagram, compare with the paper's statements, draw."""
    seeds = range(seed, seed + (1 if small else NETWORKS))
    readings = [phases.read(diagram, steps, k, samples=20 if small or k > seed else 200) for k in seeds]
    reading, stem, symbol = readings[0], diagram.name.split()[0].lower(), diagram.text
    got = [phases.facts(diagram, one) for one in readings]
    fermions, tests = diagram.name == "fermion chain", len(diagram.v_test)
    other = "another network, l2 and Hessian" if fermions else ""

    def over(name: str, form: str = ".3g") -> str:
        values = [one[name] for one in got]
        ends = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
        return f"{values[0]:{form}}{ends}"

    nearer = all(one["share RelatIF"] < one["share"] for one in got)
    farther = all(one["top RelatIF"] > one["top influence"] for one in got)
    page.compare(
        [
            (f"test states right, of {tests}", 44 if fermions else None, over("right", ".0f"), other),
            ("norm of the gradient at the end", "about .4" if fermions else None, over("gradient", ".1e"),
             "trained until it is gone"),
            ("lowest eigenvalue", -0.182 if fermions else None, over("lowest"), f"damping {got[0]['damping']:g}"),
            ("share of the influence from training states within .5 of the transition",
             "influential states sit at the transition",
             f"{over('share', '.0%')}; they are {got[0]['near']:.0%} of the states", ""),
            ("the same share of RelatIF", "RelatIF moves away from it", over("share RelatIF", ".0%"),
             "" if nearer else "not so in every network"),
            ("distance from the transition of the 5 most helpful states, median: influence", None,
             over("top influence", ".2g"), ""),
            ("the same: RelatIF", "farther away", over("top RelatIF", ".2g"),
             "" if farther else "not so here: the largest RelatIF of all stay near; the rest of it is spread out"),
            (f"{symbol} of the largest error bar (RUE)", "around the transition", over("uncertain"), ""),
            (f"{symbol} of the largest LEES",
             float(fermion_chain.V_TEST[27]) if fermions else "around the transition", over("extrapolating"), other),
            ("error bars, closed form against resamples re-evaluated, correlation", None, over("closed form"), ""),
        ],
        f"{diagram.name[0].upper()}{diagram.name[1:]}: the network of seed {seed}, drawn below, and in brackets the "
        f"range over {len(got)} networks (seeds {seeds[0]} to {seeds[-1]}). Distances are in units of {symbol}; "
        "the transition is at 1.",
    )  # fmt: skip
    _drawn(page, diagram, reading, stem)
    point = int(np.searchsorted(diagram.v_test, 1.3 * diagram.transition))
    table = phases.left_out(diagram, reading, point, seed, groups=2 if small else phases.GROUPS)
    predicted, actual = table.iloc[:, 1].to_numpy(), table.iloc[:, 2].to_numpy()
    page.table(
        table,
        f"Is it true? {phases.GROUP} of {len(diagram.v_train)} training states left out, the network trained on, and "
        f"the loss of the test state at {symbol} = {diagram.v_test[point]:.3g} asked again (correlation "
        f"{np.corrcoef(predicted, actual)[0, 1]:.3f}; of the {len(table) - 2} random groups alone "
        f"{np.corrcoef(predicted[2:], actual[2:])[0, 1]:.3f}). Large effects are underestimated: influence is a "
        "first-order estimate.",
    )


def _drawn(page: Page, diagram: phases.Diagram, reading: phases.Reading, stem: str) -> None:
    page.figure(
        phases.influence_figure(diagram, reading),
        f"{stem}_influence",
        "Influence (above) and RelatIF (below) of every training state on three test states (black lines), along "
        f"{diagram.text}. Blue and red: the labels below and above the transition; dashed: the transition.",
    )
    page.figure(
        phases.error_figure(diagram, reading),
        f"{stem}_errors",
        f"Above: probability of the {diagram.upper} with its error under resampling of the training data (bars: "
        f"closed form; band: {len(reading.drawn.samples)} resamples re-evaluated, 90 %). Below: extrapolation score "
        "for several numbers m of dropped modes.",
    )
