"""What ``import jaxland`` offers."""

import subprocess
import sys
import types

import pytest

import jaxland

SYSTEMS = {"data", "errors", "hessian", "information", "landscape", "models", "paths", "problem", "progress", "trim"}


def test_completion_lists_public_names_only():
    names = set(dir(jaxland))
    assert names == {*jaxland.__all__, "__version__"} and len(jaxland.__all__) == len(set(jaxland.__all__))
    for name in jaxland.__all__:
        assert isinstance(getattr(jaxland, name), types.ModuleType) == (name in SYSTEMS), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        jaxland.nonsense  # noqa: B018


def test_the_systems_come_lazily():
    code = """
import sys, jaxland
assert not [m for m in sys.modules if m.startswith("jaxland.")] and "jax" not in sys.modules
assert callable(jaxland.hessian.influence) and callable(jaxland.Problem.from_energy)
assert "jaxland.trim" not in sys.modules and "jaxland.landscape" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
