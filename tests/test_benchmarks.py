"""What is imported and compiled when, and the tables made from stored benchmark runs. No test looks at a clock."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxland import Problem, mlp

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("matplotlib", "pandas", "scipy", "sklearn", "flax", "optax", "networkx", "jax.experimental.pallas")


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported(module):
    code = f"import sys, {module}; print(*[m for m in {HEAVY + ('jax',)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_importing_is_light():
    assert imported("jaxland") == set()
    assert imported("jaxland.cli") == set()
    assert imported("jaxland.problem") == {"jax"}


def test_a_second_explore_compiles_nothing(x64):
    from jaxland.landscape import explore

    x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    problem = Problem.from_model(mlp((2, 2, 2)), x, y, l2=1e-2)
    options = {"start_scale": 1.5, "seed": 2, "starts": 10, "climbs": 5, "rounds": 1}
    first = explore(problem, **options)
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: seen.append(name) if name.endswith("backend_compile_duration") else None
    )
    again = explore(problem, **options)
    assert not seen
    np.testing.assert_array_equal(first.energies, again.energies)
    # Another problem of the same shape shares every program but that of its own energy.
    explore(Problem.from_model(mlp((2, 2, 2)), x, y, l2=1e-2), **options)
    assert len(seen) <= 1


def case(name, size, cpu, **more):
    return {"extra_info": {"name": name, "size": size, "cpu": cpu, "wall": cpu, "compile": 0.5, **more}}


@pytest.fixture
def run():
    own = case("quench", "h 5", 2e-3, floor=1e-3, limit="functions")
    peer = case("SciPy", "h 5", 5e-2, peer_of="quench")
    return {
        "benchmarks": [own, peer, {"extra_info": {}}],
        "floors": {"float64 peak, GFLOP/s": 100.0},
        "versions": {"jax": "1"},
    }


def test_the_page_is_written_between_its_markers(table, run, tmp_path):
    page = tmp_path / "page.md"
    marks = [f"<!-- {name}: written by the run -->\nold\n<!-- /{name} -->" for name in table.SECTIONS]
    page.write_text("\n".join(["before", *marks, "after"]))
    table.write(run, page)
    text = page.read_text()
    assert text.startswith("before") and text.endswith("after") and "old" not in text
    assert "| quench | h 5 | 2 ms | 2 ms | 1 ms | 2.0 | functions | 0.5 s |" in text
    assert "| quench | h 5 | SciPy | 50 ms | 2 ms | 25.0 |" in text
    table.write(run, page)
    assert page.read_text() == text
    with pytest.raises(ValueError, match="no markers"):
        table.fill("nothing here", "operations", "")


def test_comparison_flags_what_became_slower(table, run):
    slower = json.loads(json.dumps(run))
    slower["benchmarks"][0]["extra_info"]["cpu"] *= 1.3
    slower["benchmarks"][1]["extra_info"]["name"] = "another"
    text = table.compare(slower, run)
    assert "1.30  SLOWER" in text and "1 of 2 cases more than 20% slower" in text
    assert "SciPy" in text and "not in this run" in text and "new" in text


def test_the_stored_reference_names_no_machine():
    stored = ROOT / "benchmarks" / "results" / "reference.json"
    run = json.loads(stored.read_text())
    assert set(run["machine_info"]) <= {"python_version", "python_implementation", "machine"}
    assert not run["commit_info"] and len(run["benchmarks"]) > 20
    assert "/work" not in stored.read_text() and "/home" not in stored.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--pretend", "--only", "verified,transition,explore,credit,audit,memory")])
def test_the_device_benchmark_runs_everywhere(tmp_path, words):
    """Every row of benchmarks/bench_device.py at tiny sizes, and once more by an accelerator's paths those that have
    any: on a GPU it has to be right the first time.
    """
    rng = np.random.default_rng(0)
    table = np.column_stack([np.arange(200), rng.normal(size=(200, 2)), rng.integers(0, 2, 200)])
    card = tmp_path / "default_credit_card.csv"
    np.savetxt(card, table, "%.6g", ",", header="ID,LIMIT,AGE,default", comments="")
    script, found = ROOT / "benchmarks" / "bench_device.py", tmp_path / "found.json"
    environment = os.environ | {"JAXLAND_DATA": str(card), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, "--small", "--seconds", "500", "--json", found, *words],
        capture_output=True, text=True, timeout=550, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = json.loads(found.read_text())
    assert not [row for row in kept["rows"] if row["unit"] == "FAILED"]
    names = " ".join(row["name"] for row in kept["rows"])
    if words:
        notes = [row["note"] for row in kept["rows"] if "transition states with" in row["name"]]
        assert "out of memory" in names and "fleet" in notes[0]
        return
    for what in (
        "gradient dense",
        "quench",
        "verified",
        "transition",
        "audit",
        "product",
        "explore",
        "credit",
        "L-BFGS",
        "moments",
        "doctor",
        "memory",
    ):
        assert what in names
    for what in ("grown", "thick", "influence", "IG-50", "SHAP", "CD", "mixture", "AutoNEB"):
        assert what in names
    dense = [row["note"] for row in kept["rows"] if "dense" in row["name"]]
    assert all(float(note.split()[-1]) < 1e-5 for note in dense)


def test_a_failing_row_is_said_and_the_others_go_on(capsys):
    module = importlib.util.spec_from_file_location("bench_device", ROOT / "benchmarks" / "bench_device.py")
    bench_device = importlib.util.module_from_spec(module)
    sys.modules["bench_device"] = bench_device
    module.loader.exec_module(bench_device)

    def breaks(bench):
        yield bench_device.Row("before", 1.0, "s", 2.0, 0.5, less_is_better=True)
        raise ValueError("of no use")

    def works(bench):
        yield bench_device.Row("after", 2.0, "1/s", 4.0, 8.0)

    bench_device.parts = lambda sizes: [("breaks", breaks), ("works", works)]
    before, bad, after = bench_device.run(bench_device.Bench(bench_device.SMALL, True, 100.0), [], None)
    assert (before.ratio, before.met, after.ratio, after.met) == (0.5, True, 0.25, False)
    assert bad.unit == "FAILED" and "ValueError: of no use" in capsys.readouterr().out
    assert bench_device.run(bench_device.Bench(bench_device.SMALL, True, 0.0), [], None) == []
    assert "SKIPPED works" in capsys.readouterr().out


def explored(*words):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "bench_explore.py", "--small", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0 and "failed" not in done.stdout, done.stdout + done.stderr[-2000:]
    return done.stdout


def test_the_store_row_of_whole_searches(tmp_path):
    out = explored("--only", "store", "--json", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [r["name"] for r in rows] == ["2,000 synthetic points stored", "planned over", "most memory"]
    assert "| most memory |" in out


@pytest.mark.slow
def test_every_row_of_whole_searches_runs():
    out = explored()
    assert "points found, default / one BLAS thread | 1.00" in out and "16 threads" in out
