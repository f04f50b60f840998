"""Benchmarks run on one thread; stored results say nothing of whose machine it was."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

KEPT = ("python_version", "python_implementation", "machine")


def pytest_benchmark_update_machine_info(config, machine_info):
    for key in [key for key in machine_info if key not in KEPT]:
        del machine_info[key]


def pytest_benchmark_update_json(config, benchmarks, output_json):
    import jax
    import numpy

    output_json["commit_info"] = {}
    output_json["versions"] = {"jax": jax.__version__, "numpy": numpy.__version__}
    cases = output_json["benchmarks"]
    for case in cases:
        case.pop("options", None)
        case["stats"] = {key: case["stats"][key] for key in ("min", "median", "max", "rounds", "iterations")}
    if any("floor" in case["extra_info"] for case in cases):
        import floors

        output_json["floors"] = floors.measured()
