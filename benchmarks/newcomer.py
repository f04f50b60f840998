"""A newcomer's first hour from the shell: every command, its wall time, and the sentence it ends with.

    python benchmarks/newcomer.py                                  built-in data, the running Python
    python benchmarks/newcomer.py --table credit.csv --target default
    python benchmarks/newcomer.py --clone                          from a clean clone, in an environment of its own

Each step is a command a person would type; the file that one writes is all that the next is given. PyTorch's step
runs where PyTorch is installed. Wall times include compilation; ``--quick`` maps smaller landscapes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What a user of Flax or PyTorch has: a module with the function that builds the model, and weights in a file.
BUILDERS = """
import jax.numpy as jnp
from flax import nnx

from jaxland.data import Preparation, load

DATA = load("breast_cancer")
SPLIT = DATA.split(0.3, seed=0, scale="standardise")
FACTS = {**Preparation.of_split(DATA, SPLIT).facts(), "source": "breast_cancer", "loss": "cross_entropy", "l2": 1e-3}


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(30, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))


def flax_net():
    return Net(nnx.Rngs(0)), FACTS


def torch_net():
    from torch import nn

    return nn.Sequential(nn.Linear(30, 6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 2)), FACTS
"""
FLAX = """
import optax, orbax.checkpoint as ocp, jax
from flax import nnx
from their_models import SPLIT, flax_net

net, facts = flax_net()
x, y = SPLIT.train.x, SPLIT.train.y
graph, w = nnx.split(net)
def loss(w):
    logits = nnx.merge(graph, w)(x)
    size = sum((leaf**2).sum() for leaf in jax.tree.leaves(w))
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean() + facts["l2"] * size
optimiser = optax.lbfgs()
@jax.jit
def train(w):
    def step(_, carry):
        w, state = carry
        value, gradient = optax.value_and_grad_from_state(loss)(w, state=state)
        updates, state = optimiser.update(gradient, state, w, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(w, updates), state
    return jax.lax.fori_loop(0, 300, step, (w, optimiser.init(w)))[0]
w = train(w)
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(CHECKPOINT, w)
print(f"a Flax checkpoint at loss {float(loss(w)):.4f}")
"""
TORCH = """
import torch
from their_models import SPLIT, torch_net

net, facts = torch_net()
net = net.double().eval()
x, y = torch.tensor(SPLIT.train.x), torch.tensor(SPLIT.train.y)
optimiser = torch.optim.LBFGS(net.parameters(), max_iter=400, line_search_fn="strong_wolfe", tolerance_grad=1e-9)
def closure():
    optimiser.zero_grad()
    size = sum((p**2).sum() for p in net.parameters())
    loss = torch.nn.functional.cross_entropy(net(x), y) + facts["l2"] * size
    loss.backward()
    return loss
optimiser.step(closure)
torch.save(net.state_dict(), CHECKPOINT)
print(f"a PyTorch state_dict at loss {float(closure()):.4f}")
"""


def main() -> None:
    """Run every step and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="breast_cancer", help="a CSV file, or the name of built-in data")
    parser.add_argument("--target", help="its target column")
    parser.add_argument("--clone", action="store_true", help="clone, make an environment, install; then go on there")
    parser.add_argument("--quick", action="store_true", help="smaller landscapes")
    parser.add_argument("--out", type=Path, help="where to put the runs; default a new folder")
    given = parser.parse_args()
    place = given.out or Path(tempfile.mkdtemp(prefix="newcomer-"))
    place.mkdir(parents=True, exist_ok=True)
    table = str(Path(given.table).resolve()) if Path(given.table).exists() else given.table
    steps = Steps(place.resolve(), sys.executable)
    if given.clone:
        steps.clone()
    first(steps, table, given.target, given.quick)
    theirs(steps)
    steps.show()


class Steps:
    """Commands that were run: what, how long, and how they ended."""

    def __init__(self, place: Path, python: str) -> None:
        self.place, self.python = place, python
        self.done: list[tuple[str, float, str]] = []
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])}

    def clone(self) -> None:
        """A clone of this repository with an environment of its own."""
        home = self.place / "clone"
        self.run("git clone", ["git", "clone", "-q", str(ROOT), str(home)])
        self.run("venv", [sys.executable, "-m", "venv", str(home / ".venv")])
        self.python = str(home / ".venv" / "bin" / "python")
        self.env["PYTHONPATH"] = str(self.place)
        pip = [self.python, "-m", "pip", "install", "-q", "-c", str(home / "constraints.txt")]
        self.run("pip install '.[sklearn,checkpoints]'", [*pip, f"{home}[sklearn,checkpoints]"])

    def jaxland(self, *arguments: str) -> None:
        """One command."""
        told = " ".join(a.replace(str(self.place) + "/", "") for a in arguments)
        self.run(f"jaxland {told}", [self.python, "-m", "jaxland", *arguments])

    def script(self, name: str, text: str, checkpoint: Path) -> None:
        """A script of the newcomer's own."""
        path = self.place / name
        path.write_text(f"CHECKPOINT = {str(checkpoint)!r}\n{text}")
        self.run(f"python {name}", [self.python, str(path)])

    def run(self, name: str, command: list[str]) -> None:
        """Run, time, and keep the last lines."""
        began = time.perf_counter()
        done = subprocess.run(command, cwd=self.place, env=self.env, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        lines = [line.strip() for line in done.stdout.strip().splitlines() if line.strip()]
        if done.returncode:
            lines = [f"FAILED ({done.returncode}): {done.stderr.strip().splitlines()[-1:]}"]
        told = [line for line in lines if not line.startswith("report:")]
        print(f"--- {name}: {seconds:.1f} s", *lines[-12:], sep="\n", flush=True)
        self.done.append((name, seconds, told[-1] if told else lines[-1] if lines else ""))

    def has(self, module: str) -> bool:
        """Whether the newcomer has a library."""
        return not subprocess.run(
            [self.python, "-c", f"import {module}"], capture_output=True, check=False
        ).returncode

    def show(self) -> None:
        """The table."""
        print("\nwall s  command, and the sentence it ended with")
        for name, seconds, told in self.done:
            print(f"{seconds:6.1f}  {name}\n        {told}")
        print(f"{sum(seconds for _, seconds, _ in self.done):6.1f}  altogether; runs in {self.place}")
        if any(told.startswith("FAILED") for _, _, told in self.done):
            sys.exit(1)


def first(steps: Steps, table: str, target: str | None, quick: bool) -> None:
    """The demo; a table to its report; the model's file into the other systems."""
    size = ["--minima", "20" if quick else "100"]
    steps.jaxland("explore", "checkerboard", "--out", str(steps.place / "demo"), *size)
    run = str(steps.place / "run")
    named = ["--target", target, "--rows", "4000"] if target else []
    steps.jaxland("explore", table, *named, "--hidden", "5", "--l2", "1e-3", "--out", run, *size)
    steps.jaxland("hessian", run, "--out", f"{run}/hessian")
    steps.jaxland("trim", run, "--out", f"{run}/trim")
    few = ["--rows", "500"] if target else []
    steps.jaxland("mi", run, *few, "--bootstraps", "10", "--out", f"{run}/mi")
    line = "0" if target is None else "2"
    steps.jaxland("report", run, "--why", line)


def theirs(steps: Steps) -> None:
    """A Flax checkpoint and a PyTorch module into hessian and trim."""
    (steps.place / "their_models.py").write_text(BUILDERS)
    weights = {"flax": (FLAX, "checkpoint", "orbax.checkpoint"), "torch": (TORCH, "net.pt", "torch")}
    for library, (text, name, module) in weights.items():
        if not steps.has(module):
            print(f"--- {library}: {module} is not installed, so this step is left out")
            continue
        checkpoint = steps.place / name
        steps.script(f"train_{library}.py", text, checkpoint)
        build = ["--build", f"their_models:{library}_net"]
        steps.jaxland("hessian", str(checkpoint), *build, "--out", str(steps.place / f"{library}-hessian"))
        steps.jaxland("trim", str(checkpoint), *build, "--out", str(steps.place / f"{library}-trim"))


if __name__ == "__main__":
    main()
