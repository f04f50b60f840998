"""What every test runs under: one platform, no silent promotion, annotations checked."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.environ.get("JAXLAND_TEST_GPU") != "1":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping
import numpy as np

TESTS = Path(__file__).parent
# `Float[Array, "n"]` admits NumPy's arrays, as JAX's functions do; the shape is checked all the same.
jaxtyping.Array = jax.Array | np.ndarray
# Annotations are checked everywhere but here. cli: Typer brings its own copy of click, whose classes have no public
# name; the store: one only read has a stand-in for its problem; options of information take what they tidy up.
# scikit-learn's checks set parameters to nonsense.
UNCHECKED = ["cli", "estimators.py", "landscape/store.py", "information/options.py"]
PACKAGE = TESTS.parent / "jaxland"
CHECKED = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" and not any(path.is_relative_to(PACKAGE / place) for place in UNCHECKED)
]
# A bare GPU machine has no beartype, and the CPU suite has checked them.
if os.environ.get("JAXLAND_TEST_GPU") != "1":
    jaxtyping.install_import_hook(CHECKED, "checked.check")
# Folders and files of tests in which nothing is promoted silently.
STRICT = ["core/decomposition", "core/energy", "core/krylov", "data", "landscape/test_network.py", "models"]
STRICT += ["problem/test_problem.py", "problem/test_symmetry.py", "report", "runs", "trim"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where JAX sees none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and jax.default_backend() != "gpu":
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no GPU (make test-gpu)"))


@pytest.fixture(autouse=True)
def promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ranks and dtypes are promoted by hand alone, in the tests named above."""
    strict = any(request.path.is_relative_to(TESTS / place) for place in STRICT)
    with (
        jax.numpy_rank_promotion("raise" if strict else "allow"),
        jax.numpy_dtype_promotion("strict" if strict else "standard"),
    ):
        yield


@pytest.fixture
def x64() -> Iterator[None]:
    """float64 for the duration of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> Iterator[None]:
    """XLA's compiler dies where a process has used up its memory maps (65,530 on Linux); every program holds some."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
