"""The notebooks run from top to bottom; they are scripts with cells, and every cell can be split off."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.py"))


def cells(text):
    """Kind and source of each cell of a notebook in the percent format."""
    parts = re.split(r"(?m)^# %%(.*)$", text)[1:]
    return list(zip((kind.strip() for kind in parts[::2]), parts[1::2]))


def test_there_is_one_for_each_system_the_pipeline_and_large_networks():
    assert [path.stem.split("_", 1)[1] for path in NOTEBOOKS] == [
        "landscape",
        "hessian",
        "trim",
        "information",
        "pipeline",
        "large_networks",
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells(notebook):
    text = notebook.read_text()
    found = cells(text)
    assert "format_name: percent" in text.split("# %%")[0] and found[0][0] == "[markdown]"
    for kind, source in found:
        if kind == "[markdown]":
            assert all(line.startswith("#") for line in source.strip().splitlines())
        else:
            compile(source, notebook.name, "exec")
    # A notebook must not replace the JAX that Colab brings.
    assert not re.search(r"install[^\n]*(jax==|jax\[|--upgrade|-U )", text)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(notebook, tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_NUMPY_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    # As a notebook shows it: the value of each cell's last expression, by what Jupyter asks of an object.
    show = (
        "import ast, sys\n"
        "space = {'__name__': '__main__'}\n"
        "for kind, source in CELLS:\n"
        "    if kind == '[markdown]': continue\n"
        "    tree = ast.parse(source)\n"
        "    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None\n"
        "    exec(compile(tree, 'cell', 'exec'), space)\n"
        "    if last is None: continue\n"
        "    value = eval(compile(ast.Expression(last.value), 'cell', 'eval'), space)\n"
        "    if value is None: continue\n"
        "    asked = (getattr(value, name, lambda: None) for name in ('_repr_html_', '_repr_png_'))\n"
        "    assert any(len(shown() or '') > 20 for shown in asked), value\n"
        "    assert len(repr(value)) < 20000\n"
    )
    script = tmp_path / "notebook.py"
    script.write_text(f"CELLS = {cells(notebook.read_text())!r}\n{show}")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
