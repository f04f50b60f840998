"""Which of many trained networks does noise lead to, and does averaging over them predict better?

Explores the landscape of a small network on 200 noisy points, then asks: which minima are occupied at the posterior's
temperature, how they hang together in funnels, how long the way between the two lowest takes, and what the averaged
prediction is worth on test data. Writes pictures and a report under runs/noise.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.landscape import explore, values_per_minimum
from jaxland.landscape.physics.analysis import analyse
from jaxland.landscape.physics.averaging import average_predictions
from jaxland.landscape.tree import monotonic_basins, skeleton
from jaxland.report import thermodynamics as drawing
from jaxland.report.disconnectivity import disconnectivity_graph
from jaxland.report.figures import save

OUT = Path("runs/noise")


def main() -> None:
    """Search, analyse, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a landscape of seconds")
    small = parser.parse_args().small
    with jax.enable_x64(True):
        split = load("checkerboard").split(0.3, seed=0, scale="standardise", train_rows=200)
        problem = Problem.from_model(mlp((2, 3, 2)), split.train.x, split.train.y, l2=1e-4)
        size = {"starts": 20, "climbs": 20, "minima": 12} if small else {"starts": 100, "climbs": 60, "minima": 80}
        landscape = explore(problem, **size, time_limit=60)
        print(landscape.describe())

        analysis = analyse(landscape)
        at = analysis.at
        print(f"\nat T = 1/{problem.n}, effectively {at.effective[0]:.2f} minima are occupied:")
        for i in np.argsort(-at.occupations[0])[:4]:
            print(f"  minimum {i}: loss {landscape.energies[i]:.4f}, occupation {at.occupations[0, i]:.3f}")
        print("\n" + analysis.funnel_table().head(6).to_string())
        if analysis.kinetics is not None:
            print("\n" + analysis.kinetics.rates.to_pandas().to_string())

        test = values_per_minimum(landscape, split.test)
        y = split.test.y
        losses = []
        for name, minima in (("lowest minimum", [0]), ("posterior average", None)):
            p = average_predictions(landscape, split.test.x, minima=minima).mean
            loss, right = -np.log(p[np.arange(len(y)), y]).mean(), (p.argmax(1) == y).mean()
            losses.append(loss)
            print(f"{name:18} test loss {loss:.4f}, accuracy {right:.3f}")

        save(drawing.occupation_figure(analysis), OUT / "occupation")
        save(drawing.funnel_figure(analysis), OUT / "funnels")
        joined = landscape.connected()
        save(disconnectivity_graph(joined, monotonic=True), OUT / "basins")
        bottoms = skeleton(joined, np.unique(monotonic_basins(joined)))
        save(disconnectivity_graph(bottoms, groups=[]), OUT / "bottoms")
        columns = {f"test {name}": test[name] for name in test.names}
        print("report:", drawing.thermodynamics_report(analysis, OUT / "report.html", values=columns))
        change = losses[1] - losses[0]
        better = "gains nothing" if abs(change) < 1e-3 else f"predicts {'better' if change < 0 else 'worse'}"
        print(
            f"finding: at T = 1/{problem.n} effectively {at.effective[0]:.1f} of {landscape.n_minima} networks are "
            f"occupied; averaging over them {better}: test loss {losses[0]:.3f} alone, {losses[1]:.3f} together"
        )


if __name__ == "__main__":
    main()
