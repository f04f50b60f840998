"""ASE's calculators as problems, problems as calculators, xyz files."""

import numpy as np
import pytest

from jaxland.errors import ArgumentError, ProblemError
from jaxland.landscape import Landscape, explore
from jaxland.landscape.interchange.export import xyz
from jaxland.problem.atoms import calculator, from_ase, write_xyz
from jaxland.problem.potentials import lennard_jones

ase = pytest.importorskip("ase", reason="ASE is not installed (extra: ase)")

from ase.calculators.emt import EMT  # noqa: E402
from ase.calculators.lj import LennardJones  # noqa: E402
from ase.io import read  # noqa: E402
from ase.optimize import BFGS  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
CORNERS = np.array([[0, 0, 0], [1.1, 0, 0], [0, 1.1, 0], [0, 0, 1.1]])


def cluster(positions):
    return ase.Atoms(f"Ar{len(positions)}", positions, calculator=LennardJones(rc=1e4, ro=1e4))


def test_a_calculator_is_a_problem():
    theirs, ours = from_ase(cluster(CORNERS)), lennard_jones(4)
    w = (CORNERS + RNG.normal(scale=0.05, size=(4, 3))).ravel()
    assert float(theirs.energy(w)) == pytest.approx(float(ours.energy(w)), abs=1e-9)
    np.testing.assert_allclose(theirs.gradient(w), ours.gradient(w), atol=1e-9)
    np.testing.assert_allclose(theirs.hessian(w), ours.hessian(w), atol=2e-5)


@pytest.mark.slow
def test_its_landscape_is_found():
    found = explore(
        from_ase(cluster(np.r_[CORNERS, CORNERS[:1] + 2.5])), minima=1, rounds=1, starts=6, box=(-1.5, 1.5)
    )
    assert found.energies[0] == pytest.approx(-9.103852, abs=1e-5)  # LJ5, the Cambridge Cluster Database


def test_molecules_of_several_elements(tmp_path):
    """Like atoms are exchanged, unlike ones are not: three atoms have one triangle."""
    atoms = ase.Atoms("CuAuCu", [[0, 0, 0], [2.5, 0, 0], [1.2, 2.2, 0]], calculator=EMT())
    problem = from_ase(atoms)
    assert problem.symmetry.order() == 4  # one exchange, one reflection
    BFGS(atoms, logfile=None).run(fmax=1e-8, steps=200)
    relaxed = atoms.get_positions()
    found = explore(problem.at(relaxed.ravel()), minima=1, starts=3, climbs=0, walkers=0, rounds=0, box=(-2.5, 2.5))
    assert found.n_minima == 1 and found.energies[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    atoms.set_tags([0, 0, 1])
    assert from_ase(atoms).symmetry.order() == 2


def test_a_problem_is_a_calculator(tmp_path):
    atoms = ase.Atoms("Ar4", CORNERS)
    atoms.calc = calculator(lennard_jones(4))
    BFGS(atoms, logfile=None).run(fmax=1e-6, steps=200)
    assert atoms.get_potential_energy() == pytest.approx(-6.0, abs=1e-9)
    with pytest.raises(ProblemError, match="the problem has 4 atoms, these are 2"):
        other = ase.Atoms("Ar2", CORNERS[:2], calculator=calculator(lennard_jones(4)))
        other.get_potential_energy()


def test_xyz_is_read_by_ase(tmp_path):
    found = Landscape.from_points(
        [-6.0, -5.5], RNG.normal(size=(2, 12)), [-5.0], [[0, 1]], ts_coordinates=RNG.normal(size=(1, 12))
    )
    paths = xyz(found, tmp_path, symbols="Ar")
    frames = read(paths[0], ":")
    assert [frame.get_chemical_formula() for frame in frames] == ["Ar4", "Ar4"]
    np.testing.assert_allclose(frames[1].positions.ravel(), found.coordinates[1], rtol=1e-11)
    assert frames[0].get_potential_energy() == -6.0 and len(read(paths[1], ":")) == 1
    with pytest.raises(ArgumentError, match=r"must have shape \[M, 3 atoms\], got \(2, 5\)"):
        write_xyz(tmp_path / "no.xyz", np.zeros((2, 5)))


def test_what_is_refused():
    for atoms, match in (
        (ase.Atoms("Ar2", CORNERS[:2]), "have no calculator"),
        (ase.Atoms("Ar2", CORNERS[:2], pbc=True, cell=[5, 5, 5], calculator=LennardJones()), "periodic cells"),
    ):
        with pytest.raises(ProblemError, match=match):
            from_ase(atoms)


def test_to_xarray():
    pytest.importorskip("xarray", reason="xarray is not installed (extra: xarray)")
    found = Landscape.from_points([-6.0, -5.5], RNG.normal(size=(2, 3)), [-5.0], [[0, 1]]).to_xarray()
    assert dict(found.sizes) == {"minimum": 2, "coordinate": 3, "transition_state": 1, "end": 2}
    assert float(found.ts_energies[0]) == -5.0
