"""Rows of one evaluation: batches follow the device and its memory, results do not."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxland.core.solvers import batches, threads


def squares(row, data):
    return {"sum": jnp.sum(row**2) + data, "outer": jnp.outer(row, row)}


@pytest.mark.parametrize("count", [0, 1, 7, 8, 50])
@pytest.mark.parametrize("on_cpu", [True, False])
def test_rows_in_order_whatever_the_batches(x64, monkeypatch, count, on_cpu):
    monkeypatch.setattr(threads, "on_accelerator", lambda: not on_cpu)
    rows = list(np.random.default_rng(0).normal(size=(count, 3)))
    found = batches.map_rows(squares, rows, jnp.asarray(2.0))
    assert len(found) == count
    for row, got in zip(rows, found):
        np.testing.assert_allclose(got["sum"], np.sum(row**2) + 2, rtol=1e-14)
        np.testing.assert_allclose(got["outer"], np.outer(row, row), rtol=1e-14)


def test_an_accelerator_takes_powers_of_two_and_halves_them_where_memory_runs_out(monkeypatch):
    def one(row, data):
        return row + data

    monkeypatch.setattr(threads, "on_accelerator", lambda: True)
    mapped, sizes = batches._mapped(one), []
    real = mapped.beside

    def limited(rows, data):
        sizes.append(len(rows))
        if len(rows) > 32:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return real(rows, data)

    mapped.beside = limited
    rows = list(np.arange(100, dtype=np.float32)[:, None])
    found = batches.map_rows(one, rows, np.float32(1))
    np.testing.assert_array_equal(np.concatenate(found), np.arange(1, 101))
    assert sizes == [128, 64, 32, 32, 32, 16]
    sizes.clear()
    batches.map_rows(one, rows, np.float32(1))  # what was too large is not tried again
    assert sizes == [32, 32, 32, 16]
    with pytest.raises(RuntimeError, match="other"):
        mapped.beside = lambda rows, data: (_ for _ in ()).throw(RuntimeError("other"))
        batches.map_rows(one, rows, np.float32(1))


def test_free_memory_bounds_a_batch(monkeypatch):
    class Card:
        def memory_stats(self):
            return {"bytes_limit": 8e9, "bytes_in_use": 1e9}

    monkeypatch.setattr(batches, "_device", Card)
    assert batches._affordable(np.zeros(2500)) == int(7e9 // (8 * 8 * 2500**2))
    assert batches._affordable(np.zeros(10, np.float32)) > 4096
