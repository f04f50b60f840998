"""The doctor tells wrong numbers from a short format."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import doctor


def test_this_installation_is_sound():
    found = {check.name: check for check in doctor.checks()}
    assert all(check.ok for check in found.values()), found
    assert "digits by default" in found["float32 products"].detail


@pytest.fixture
def short(monkeypatch):
    """Products as a GPU makes them by default: operands cut to the 10 bits of TF32, unless more is asked for."""
    matmul = jnp.matmul

    def cut(a):
        a = jnp.asarray(a)
        if a.dtype != jnp.float32:
            return a
        return jax.lax.reduce_precision(a, exponent_bits=8, mantissa_bits=10)

    def product(a, b, *, precision=None):
        return matmul(a, b) if precision == jax.lax.Precision.HIGHEST else matmul(cut(a), cut(b))

    monkeypatch.setattr(jnp, "matmul", product)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def test_tf32_is_told_and_is_no_fault(short):
    assert 2 < doctor.default_digits() < 5
    assert doctor.batched_matvec_errors(2_000) == 0


def test_wrong_sums_are_a_fault(monkeypatch):
    """As jax 0.10.2 has it: rows beyond a number come out wrong."""
    vmap = jax.vmap

    def wrong(f, **options):
        return lambda *a: jnp.where(jnp.arange(len(a[0])) < 1_500, vmap(f, **options)(*a), 0.0)

    monkeypatch.setattr(jax, "vmap", wrong)
    assert doctor.batched_matvec_errors(2_000) == 2 * 500
    monkeypatch.setattr(doctor, "batched_matvec_errors", lambda: 7)
    failed = [check for check in doctor.checks() if not check.ok]
    assert [check.name for check in failed] == ["batched reductions"] and "install another JAX" in failed[0].detail


def test_default_digits_of_full_precision():
    assert doctor.default_digits() > 5.5
    assert np.isfinite(doctor.default_digits())
