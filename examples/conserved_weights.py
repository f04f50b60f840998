"""Which inputs do all good networks agree on? The landscape of a small network on the wine data, read by hand.

Writes pictures and a report under runs/wine.
"""

import argparse
from pathlib import Path

import jax

from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.landscape import conserved_weights, explore, interpret, level_cut
from jaxland.landscape.tree import energy_windows
from jaxland.report.conclusion import answers, headline
from jaxland.report.conserved.findings import findings
from jaxland.report.landscape import explore_report, save_figures

OUT = Path("runs/wine")


def main() -> None:
    """Search, analyse, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a landscape of seconds")
    small = parser.parse_args().small
    with jax.enable_x64(True):
        split = load("wine").split(0.3, seed=0, scale="standardise")
        print(split.train.describe())
        problem = Problem.from_model(mlp((split.train.d, 6, 3)), split.train.x, split.train.y, l2=1e-4)
        size = {"starts": 20, "climbs": 10, "minima": 8} if small else {"starts": 200, "climbs": 60, "minima": 60}
        landscape = explore(problem, **size, time_limit=60)
        print(landscape.describe())

        connected = landscape.connected()
        found = conserved_weights(connected, level_cut(connected), test=split.test)
        if found.groups:
            print(found.to_pandas().to_string(index=False))
        for sentence, missing in findings(found):
            print("-" if missing else "+", sentence)

        if landscape.n_minima > 5:
            lowest = conserved_weights(landscape, energy_windows(landscape), test=split.test)
            for group in lowest.groups:
                print(
                    f"the {len(group.members)} lowest minima scatter {group.spread_ratio:.2f} times as much as chance"
                )

        OUT.mkdir(parents=True, exist_ok=True)
        told = interpret(landscape, found, data=split)
        save_figures(told, OUT)
        print("report:", explore_report(told, OUT / "report.html"))
        for question, answer, evidence, *_ in answers(told):
            print(f"{question} {answer} ({evidence})")
        print("finding:", headline(told).sentence)


if __name__ == "__main__":
    main()
