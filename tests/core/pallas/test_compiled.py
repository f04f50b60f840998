"""Kernels compiled to an H100's machine code on a machine that has none; where XLA's CUDA plugin is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")


def installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not any(map(installed, PLUGINS)), reason="needs jax-cuda13-plugin and jax-cuda13-pjrt, no GPU")
def test_no_kernel_spills():
    script = Path(__file__).parents[3] / "benchmarks" / "gpu_code.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("without a spill") > 20
