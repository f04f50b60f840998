"""The command as a user types it: outputs, resume, Ctrl-C, one clear line for bad input."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from jaxland.models import load


def command(*args):
    return [sys.executable, "-m", "jaxland", *map(str, args)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache")), "COLUMNS": "200"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, environment):
    out = tmp_path_factory.mktemp("run")
    table = out / "table.csv"
    rows = [f"{i % 7},{(3 * i) % 5},{'yes' if (i % 7 > 3) != ((3 * i) % 5 > 2) else 'no'}" for i in range(80)]
    table.write_text("age,debts,default\n" + "\n".join(rows) + "\n")
    args = command(
        "explore", table, "--target", "default", "--hidden", 2, "--l2", 1e-2, "--starts", 30, "--climbs", 20
    )
    return out, [*args, "--rounds", "3", "--out", str(out / "run")]


def test_explore_writes_what_it_promises_and_resumes(run, environment):
    out, args = run
    first = subprocess.run(args, env=environment, capture_output=True, text=True, timeout=500)
    assert first.returncode == 0, first.stderr
    assert "cpu_aot_loader" not in first.stderr
    assert str(out / "run" / "report.html") in first.stdout.replace("\n", "")
    page = (out / "run" / "report.html").read_text()
    assert "<svg" in page and "age" in page and "debts" in page and "http" not in page.split("<body>")[0]
    for name in ("disconnectivity.png", "disconnectivity.svg", "minima.csv", "transition_states.csv", "landscape.db"):
        assert (out / "run" / name).stat().st_size > 0
    model, metadata = load(out / "run" / "model.npz")
    assert (
        model.sizes == (2, 2, 2) and metadata["features"] == ["age", "debts"] and metadata["classes"] == ["no", "yes"]
    )
    minima = pd.read_csv(out / "run" / "minima.csv")
    assert (minima["gradients"] <= 1e-9).all() and (minima["lowest_eigenvalues"] > 0).all()
    again = subprocess.run(args, env=environment, capture_output=True, text=True, timeout=500)
    assert again.returncode == 0
    pd.testing.assert_frame_equal(minima, pd.read_csv(out / "run" / "minima.csv"))


def test_why_is_checked_before_the_search_and_explained_in_the_report(run, environment):
    out, args = run
    late = subprocess.run([*args, "--why", "82"], env=environment, capture_output=True, text=True, timeout=500)
    assert late.returncode == 2 and "--why 82: table has lines 2 to 81" in late.stderr
    none = subprocess.run(command("explore", "lj7", "--out", out / "lj", "--why", 1), env=environment,
                          capture_output=True, text=True, timeout=500)  # fmt: skip
    assert none.returncode == 2 and "lj7 makes none" in none.stderr and not (out / "lj").exists()


@pytest.mark.slow
def test_a_report_explains_a_row_by_all_four_systems(run, environment):
    out, args = run
    subprocess.run(args, env=environment, capture_output=True, text=True, timeout=500, check=True)
    done = subprocess.run(command("report", out / "run", "--why", 3, "--json"), env=environment, capture_output=True,
                          text=True, timeout=500)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["why"]["3"].startswith("Predicted ") and said["finding"] and said["report"].endswith("report.html")
    page = (out / "run" / "report.html").read_text()
    for words in ("Why line 3?", "(landscape)", "(Hessian)", "trim against information", "training line"):
        assert words in page


def test_ctrl_c_stops_between_two_commits_and_still_reports(run, environment):
    out, args = run
    args = [*args[:-1], str(out / "stopped"), "--starts", "100000"]
    process = subprocess.Popen(args, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not (out / "stopped" / "landscape.db").exists():
        time.sleep(0.1)
    time.sleep(12)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=300)
    # Nothing merged yet on a slow machine: then there is nothing to report, and it says so.
    assert "Stopped early" in text, text
    assert process.returncode in (0, 2)
    assert "report:" in text or "no minima" in text


@pytest.mark.parametrize(
    "args, words",
    [
        (("nowhere.csv", "--target", "y"), "nowhere.csv does not exist"),
        (("xor", "--hidden", "x"), "--hidden takes widths"),
        (("xor", "--activation", "swish"), "swish"),
    ],
)
def test_bad_input_is_one_line(args, words, tmp_path, environment):
    got = subprocess.run(
        command("explore", *args, "--out", tmp_path / "r"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert got.returncode == 2
    assert words in got.stderr and "Traceback" not in got.stderr
    assert not (tmp_path / "r").exists()
