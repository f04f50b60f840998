"""What every test runs under: one platform, and the options that keep arrays honest."""

import os
from collections.abc import Iterator

import pytest

if os.environ.get("JAXLAND_TEST_GPU") != "1":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where JAX sees none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and jax.default_backend() != "gpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no GPU (make test-gpu)"))


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 for the duration of one test."""
    with jax.enable_x64(True):
        yield
