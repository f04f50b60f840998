"""A Lennard-Jones cluster found here, handed to the Fortran suite, and brought back: every number the same.

Writes a PATHSAMPLE database (runs/lj7/database: min.data, ts.data, points.min, points.ts, min.A, min.B), a GraphML
file and a report under runs/lj7.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from jaxland.landscape import explore
from jaxland.landscape.interchange import archive, export, pathsample
from jaxland.problem import potentials
from jaxland.report.imported import imported_report

OUT = Path("runs/lj7")


def main() -> None:
    """Search, write, read, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="five atoms, few climbs")
    small = parser.parse_args().small
    with jax.enable_x64(True):
        problem = potentials.lennard_jones(6 if small else 7)
        found = explore(problem, starts=40, climbs=20 if small else 100, rounds=1 if small else 4, hops=1)
        print(found.describe())
        # Products: the pentagonal bipyramid. Reactants: everything else.
        pathsample.write(found, OUT / "database", a=[0], b=range(1, found.n_minima), force=True)
        print((OUT / "database" / "min.data").read_text())

        got = pathsample.read(OUT / "database", problem=problem)
        print(f"read back, energies compared with the potential: {got.describe()}")
        for name in ("energies", "coordinates", "log_products", "orbit_sizes", "ts_energies", "ts_ends"):
            assert np.array_equal(getattr(found, name), getattr(got.landscape, name)), name

        archive.save(found, OUT / "landscape.npz", force=True)
        export.graphml(found, OUT, force=True)
        report = imported_report(got.landscape, OUT, title="LJ7", energy_label="energy / epsilon")
        print(f"{report}, {OUT / 'disconnectivity.png'}, {OUT / 'landscape.npz'}, {OUT / export.GRAPH}")
        print(
            f"finding: {found.n_minima} minima and {found.n_ts} transition states, written for the Fortran programs "
            "and read back: energies, coordinates, products, orders and ends are the same to the last digit"
        )


if __name__ == "__main__":
    main()
