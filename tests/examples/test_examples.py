"""Every script of examples/ runs with small settings and leaves its files where it was started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_runs_with_small_settings(script, tmp_path):
    # As a user runs it: JAX's own promotion rules.
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_NUMPY_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(EXAMPLES.parent), env.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(script), "--small"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # It ends with what was found, not with an empty table or a number that is none.
    assert "finding: " in done.stdout and "Empty DataFrame" not in done.stdout
    assert "nan" not in done.stdout.split("finding: ")[1].split("\n")[0]
