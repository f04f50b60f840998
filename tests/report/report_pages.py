"""Small but whole reports of every system, for the tests that look at them."""

import jax
import numpy as np

from jaxland import Problem, mlp
from jaxland.data import load

PAGES = ("explore", "hessian", "trim", "mi")


def write(name, folder):
    """Path of the report of a system."""
    with jax.enable_x64(True):
        return {"explore": explored, "hessian": explained, "trim": attributed, "mi": informed}[name](folder)


def explored(folder):
    """A family of networks on two inputs: graph, decisions, predictions, validation."""
    from jaxland.landscape import interpret
    from jaxland.landscape.result import Landscape
    from jaxland.landscape.weights.settings import ConservationSettings
    from jaxland.report.landscape import explore_report

    split = load("checkerboard", n=300).split(0.5, scale="standardise")
    problem = Problem.from_model(mlp((2, 3, 2)), split.train.x, split.train.y, l2=1e-3)
    rng = np.random.default_rng(0)
    base = rng.normal(size=problem.size) + 2 * np.sign(rng.normal(size=problem.size))
    points = base + np.where(np.arange(60)[:, None] < 20, 0.05, 0.5) * rng.normal(size=(60, problem.size))
    energies = np.concatenate([np.linspace(0.2, 0.3, 20), np.linspace(0.35, 0.5, 40)])
    ends = [[i, i + 1] for i in range(59)]
    heights = [0.32 + 0.002 * j if j < 20 else 0.55 + 0.001 * j for _, j in ends]
    land = Landscape.from_points(energies, points, heights, ends, problem=problem, settings={"l2": 1e-3})
    settings = ConservationSettings(draws=60, shuffles=10)
    return explore_report(interpret(land, data=split, settings=settings), folder / "report.html", command="jaxland x")


def explained(folder):
    """Influence, uncertainty and spectrum of a small classifier."""
    from jaxland.hessian import explain
    from jaxland.report.hessian import Answers, hessian_report

    split = load("wine").split(0.4, scale="standardise")
    problem = Problem.from_model(mlp((13, 3, 3)), split.train.x, split.train.y, l2=1e-2)
    problem = problem.at(minimised(problem))
    queries = split.test.x[:40], split.test.y[:40]
    explained = explain(problem, queries)
    predicted = np.asarray(problem.predict(None, queries[0])).argmax(1)
    answers = Answers(split.train.classes, predicted, np.asarray(queries[1]))
    return hessian_report(explained, folder / "report.html", answers=answers, title="Wine")


def attributed(folder):
    """Frequencies of a linear model."""
    from jaxland import trim
    from jaxland.report import trim as report

    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 16))
    wave = np.cos(np.arange(16) * np.pi / 4)
    result = trim.attribute(lambda v: v @ wave, x, transform=trim.rfft(16))
    page = report.page(
        result,
        spectrum=trim.power(result),
        deletion=trim.deletion(result),
        insertion=trim.insertion(result),
        evaluation=trim.sensitivity_n(result),
    )
    return report.write(folder, page, {})[0]


def informed(folder):
    """Two latents against a factor each, one of them a label."""
    import pandas as pd

    from jaxland.information import matrix
    from jaxland.information.latents import summarise
    from jaxland.report.information import information_report

    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 2))
    latents = pd.DataFrame({"z1": z[:, 0] + 0.3 * rng.normal(size=400), "z2": z[:, 1] + 0.5 * rng.normal(size=400)})
    factors = pd.DataFrame({"size": z[:, 0], "kind": np.where(z[:, 1] > 0, "round", "square")})
    options = {"orders": 2, "bootstraps": 8, "seed": 0}
    between, table = matrix(latents, **options), matrix(latents, factors, **options)
    return information_report(
        table, folder / "report.html", between=between, summary=summarise(table, between), title="Latents"
    )


def minimised(problem):
    """Parameters of a minimum, by SciPy."""
    from scipy.optimize import minimize

    def both(w):
        return float(problem.energy(w)), np.asarray(problem.gradient(w), float)

    start = np.random.default_rng(1).normal(size=problem.size)
    return minimize(both, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
