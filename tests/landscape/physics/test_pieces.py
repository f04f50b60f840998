"""A landscape in pieces, without coordinates: what can be said of each piece is said."""

import numpy as np
import pytest
from typer.testing import CliRunner

from jaxland.cli import app
from jaxland.errors import DataError
from jaxland.landscape import Landscape
from jaxland.landscape.physics.analysis import analyse


def three_pieces(size=0):
    """Pieces {0, 1, 4}, {2, 3} and {5}."""
    return Landscape.from_points(
        [-5.0, -4.5, -4.0, -3.5, -3.0, -1.0],
        np.zeros((6, size)),
        [-2.0, -1.5, -2.5],
        [[0, 1], [1, 4], [2, 3]],
        log_products=np.full(6, 2.0),
        ts_log_products=np.full(3, 1.5),
    )


def test_occupations_are_of_all_pieces_and_rates_of_one():
    found = analyse(three_pieces(), temperature=0.5)
    boltzmann = np.exp(-np.array([-5.0, -4.5, -4.0, -3.5, -3.0, -1.0]) / 0.5)
    np.testing.assert_allclose(found.at.occupations[0], boltzmann / boltzmann.sum())
    pieces = found.pieces()
    assert pieces["minima"].tolist() == [3, 2, 1] and pieces["transition states"].tolist() == [2, 1, 0]
    each = np.array([boltzmann[[0, 1, 4]].sum(), boltzmann[[2, 3]].sum(), boltzmann[5]])
    np.testing.assert_allclose(pieces["occupation"], each / boltzmann.sum())
    assert "3 pieces" in found.notes[0] and "vibrational modes is not known" in found.notes[1]
    other = analyse(three_pieces(), temperature=0.5, sets=([2], [3]))
    assert other.connected.tolist() == [2, 3] and other.kinetics is not None
    # One step: the rate from 3 to 2 over the pass at -2.5 (transition-state theory, equal images).
    np.testing.assert_allclose(
        other.kinetics.rates.log_ab, -np.log(2 * np.pi) + (2.0 - 1.5) / 2 - (-2.5 + 3.5) / 0.5, rtol=1e-12
    )
    with pytest.raises(DataError, match="minimum 5 of B is not joined"):
        analyse(three_pieces(), sets=([0], [5]))


def test_with_coordinates_the_modes_are_known():
    assert len(analyse(three_pieces(4), temperature=0.5).notes) == 1


def test_the_command_says_what_it_can_of_a_database_in_pieces(tmp_path):
    source = tmp_path / "database"
    source.mkdir()
    (source / "min.data").write_text("".join(f"{e} 2.0 1 1.0 1.0 1.0\n" for e in (-4.0, -3.5, -3.0, -2.5, -2.2)))
    (source / "ts.data").write_text("-1.0 1.5 1 1 2 1.0 1.0 1.0\n-1.2 1.6 1 3 4 1.0 1.0 1.0\n")
    (source / "min.A").write_text("1\n1\n")
    (source / "min.B").write_text("1\n4\n")
    run = CliRunner()
    assert run.invoke(app, ["import", str(source), "--out", str(tmp_path / "run")]).exit_code == 0
    told = run.invoke(app, ["thermo", str(tmp_path / "run")])
    assert told.exit_code == 0, told.output
    assert "A and B of the database are not joined" in told.output and "pieces" in told.output
    assert (tmp_path / "run" / "thermodynamics" / "pieces.csv").read_text().count("\n") == 4
    assert "in 3 pieces" in (tmp_path / "run" / "thermodynamics" / "report.html").read_text()
