"""What the command and the API say to inputs that make no sense; run as a script it prints both tables.

    python tests/cli/bad_inputs.py [--json]

Every line is one call: its exit code (or the error's class) and the first line a user reads.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from jaxland import Problem

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("COLUMNS", "300")
os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")


class Said(NamedTuple):
    """What came of a call: the exit code or the error's class, and the first line."""

    call: str
    outcome: str
    line: str


# Arguments of the command, and words of the answer. RUN is a folder to write to.
COMMANDS = {
    "explore lj999999 --out RUN": "one Hessian takes 67,055 GiB",
    "explore lj1 --out RUN": "at least 2",
    "explore nothing.csv --out RUN": "nothing.csv does not exist",
    "explore wines --out RUN": "did you mean the built-in 'wine'",
    "explore wine --target nope --out RUN": "wine is built in: --target",
    "explore table.csv --out RUN": "give --target",
    "explore table.csv --target nope --out RUN": "--target: table has no column 'nope'",
    "explore table.csv --target y --drop y --out RUN": "named in --drop",
    "explore table.csv --target y --keep zz --out RUN": "--keep: table has no column 'zz'",
    "explore table.csv --target y --rows 100000 --out RUN": "--rows must lie within 1..",
    "explore table.csv --target y --rows 0 --out RUN": "--rows must be at least 1",
    "explore table.csv --target y --test-fraction 1.5 --out RUN": "--test-fraction must be at least 0 and below 1",
    "explore table.csv --target y --scale log --out RUN": "--scale must be one of none",
    "explore table.csv --target y --l2 nan --out RUN": "--l2 must be a finite number",
    "explore table.csv --target y --l2 -1 --out RUN": "--l2 must be a finite number of at least 0",
    "explore table.csv --target y --hidden 2.5 --out RUN": "--hidden takes widths such as 8",
    "explore table.csv --target y --hidden 0 --out RUN": "--hidden takes widths of at least 1",
    "explore table.csv --target y --activation swish --out RUN": "--activation must be one of tanh",
    "explore table.csv --target y --minima -1 --out RUN": "--minima must not be negative",
    "explore table.csv --target y --starts 0 --out RUN": "--starts must be at least 1",
    "explore table.csv --target y --start-scale nan --out RUN": "--start-scale must be a finite number",
    "explore table.csv --target y --precision half --out RUN": "--precision must be one of double, mixed",
    "explore table.csv --target y --time-limit -3 --out RUN": "--time-limit must be above 0",
    "explore table.csv --target y --task sort --out RUN": "--task takes classify, regress, count",
    "explore table.csv --target a --task count --out RUN": "counts are whole",
    "explore table.csv --target y --missing guess --out RUN": "--missing takes refuse",
    "explore holes.csv --target y --out RUN": "fill them with --missing mean",
    "explore constant.csv --target y --out RUN": "Drop it (--drop c) or all such columns (--constant drop)",
    "explore table.csv --target y --sep ab --out RUN": "--sep must be one character",
    "explore thousands.csv --target y --out RUN": "(--thousands , or --decimal ,)",
    "plan table.csv --target y --alpha 2 --out RUN": "No such option",
    "report RUN": "holds no run.json",
    "work RUN": "holds no run.json",
    "thermo RUN": "RUN",
    "thermo RUN --temperature -1": "--temperature must be positive",
    "hessian model.npz wine --target nope --out RUN": "wine is built in: --target",
    "hessian model.npz table.csv --out RUN": "the one that is no input with --target",
    "hessian nothing.npz table.csv --out RUN": "model file nothing.npz does not exist",
    "hessian table.csv table.csv --out RUN": "holds weights alone",
    "hessian model.npz table.csv --target y --l2 nan --out RUN": "l2 must be a finite number",
    "hessian model.npz table.csv --target y --samples 1 --out RUN": "--samples must be 0 or at least 2",
    "hessian model.npz table.csv --target y --of love --out RUN": "--of takes loss",
    "hessian model.npz table.csv --target y --damping -1 --out RUN": "--damping must not be negative",
    "hessian model.npz table.csv --target y --loss hinge --out RUN": "loss 'hinge' is unknown",
    "mi latents.csv --bootstraps -1 --out RUN": "--bootstraps must not be negative",
    "mi latents.csv --bootstraps 1 --out RUN": "no error bars",
    "mi latents.csv --units bytes --out RUN": "--units must be one of nats, bits",
    "mi latents.csv --against latents.csv --categorical zzz --out RUN": "'zzz', which is no factor",
    "mi latents.csv --against short.csv --out RUN": "samples must pair up",
    "mi one.csv --out RUN": "--against",
    "trim model.npz inputs.csv --labels zzz --out RUN": "no column 'zzz'",
    "trim model.npz inputs.npz --labels zzz --out RUN": "no array 'zzz'",
    "trim model.npz inputs.csv --rows 100000 --out RUN": "--rows must lie within 1..",
    "trim model.npz inputs.csv --method magic --out RUN": "magic",
    "trim model.npz inputs.csv --target 9 --out RUN": "target 9",
    "trim model.npz inputs.csv --baseline half --out RUN": "--baseline must be one of zero, mean",
    "trim model.npz wide.csv --transform identity --out RUN": "no input with --labels",
    "export RUN --to zip --out RUN": "--to must be one of",
    "merge RUN --out RUN": "holds no run.json",
    "explore names.csv --target GROESSE --out RUN": "did you mean 'größe'",
    "explore twice.csv --target y --out RUN": "column name 'a' occurs more than once",
    "explore one-row.csv --target y --out RUN": "has one class only",
    "explore no-rows.csv --target y --out RUN": "has a header but no rows",
    "explore empty.csv --target y --out RUN": "is empty",
    "explore hollow.csv --target y --missing mean --out RUN": "has no values at all",
    "explore overflow.csv --target y --out RUN": "infinite values, the first in line 5",
    "explore two-dates.csv --target y --out RUN": "dates written in several ways",
    "explore fake.csv.gz --target y --out RUN": "cannot be read: Not a gzipped file",
    "explore binary.csv --target y --out RUN": "is no text file",
    "explore folder.csv --target y --out RUN": "folder.csv is a folder",
    "explore ragged.csv --target y --out RUN": "line 3: 2 fields where the header has 3",
    "explore nameless.csv --target y --out RUN": "nameless has no column 'y'; it has 0.126",
    "explore table.csv --target y --seed -1 --out RUN": "--seed must not be negative",
    "explore table.csv --target y --decimal x --out RUN": "--decimal must be a point or a comma",
    "explore table.csv --target y --encoding klingon --out RUN": "encoding 'klingon' is unknown",
    "explore table.csv --target y --drop a --keep a --out RUN": "both --keep and --drop",
    "explore table.csv --target y --test-fraction nan --out RUN": "--test-fraction must be a finite number",
    "explore table.csv --target y --out inputs.csv/x": "cannot be written: Not a directory",
    "explore lj5 --hidden 3 --target y --out RUN": "lj5 is a potential",
    "hessian cut.npz table.csv --target y --out RUN": "not a model file written by jaxland",
    "hessian model.npz rows.npy --target y --out RUN": ".npy files are not read here",
    "hessian model.npz text.csv --target y --out RUN": "holds text, such as 'abc' in line 2",
    "hessian model.npz table.csv --target y --of output --out RUN": "choose --of logit or --of probability",
    "hessian model.npz model.npz --target y --out RUN": "has no array 'x'",
    "trim model.npz holes.npz --out RUN": "not finite, the first in row 3",
    "trim model.npz no-rows.csv --out RUN": "has a header but no rows",
    "trim model.npz inputs.csv --transform fourier --out RUN": "transform 'fourier' is unknown",
    "mi constant.csv --out RUN": "c is constant",
    "mi one-row.csv --out RUN": "at least 20 are needed",
    "mi hollow.csv --out RUN": "non-finite values",
    "thermo table.csv": "not a jaxland store",
    "import folder.csv --out RUN": "holds no min.data",
    "status folder.csv": "holds neither landscape.db",
    "matrix latents.csv --out RUN": "No such command",
    "doctor --nope": "No such option",
}


def files(folder: Path) -> None:
    """The tables and models that the commands name."""
    import numpy as np

    from jaxland import mlp
    from jaxland.models import save

    rng = np.random.default_rng(0)
    x = rng.normal(size=(42, 2))
    y = (x[:, 0] > 0).astype(int)

    def write(name: str, head: str, rows: object) -> None:
        lines = [",".join(map(str, row)) for row in rows]  # type: ignore[attr-defined]
        (folder / name).write_text("\n".join([head, *lines]) + "\n")

    write("table.csv", "a,b,y", np.c_[x.round(3), y].tolist())
    write("holes.csv", "a,b,y", [(a if i != 3 else "", b, k) for i, ((a, b), k) in enumerate(zip(x.round(3), y))])
    write("constant.csv", "a,c,y", [(a, 1, k) for a, k in zip(x[:, 0].round(3), y)])
    write("thousands.csv", "a,b,y", [(f'"{i + 1},{100 + 7 * i}"', b, k) for i, (b, k) in enumerate(zip(x[:, 1], y))])
    write("latents.csv", "z1,z2", x.round(4).tolist())
    write("short.csv", "f,g", x[:30].round(4).tolist())
    write("one.csv", "z", x[:, :1].round(4).tolist())
    write("inputs.csv", "a,b", x.round(4).tolist())
    write("wide.csv", "a,b,c", rng.normal(size=(42, 3)).round(4).tolist())
    np.savez(folder / "inputs.npz", x=x, y=y)
    save(folder / "model.npz", mlp((2, 3, 2)))
    a, b = x.round(3).T
    write("names.csv", "my a, größe ,y", np.c_[x.round(3), y].tolist())
    write("twice.csv", "a,a,y", np.c_[x.round(3), y].tolist())
    write("one-row.csv", "a,b,y", [(1, 2, 0)])
    write("no-rows.csv", "a,b,y", [])
    write("hollow.csv", "a,b,y", [(u, "", k) for u, k in zip(a, y)])
    write("overflow.csv", "a,b,y", [("1e400" if i == 3 else u, v, k) for i, (u, v, k) in enumerate(zip(a, b, y))])
    days = [f"2024-01-{i % 28 + 1:02d}" if i % 2 else f"{i % 28 + 1}.1.2024" for i in range(len(y))]
    write("two-dates.csv", "d,b,y", list(zip(days, b, y)))
    write("ragged.csv", "a,b,y", [(1, 2, 0), (1, 2), (3, 4, 1, 5)])
    write("nameless.csv", "0.126,-0.132,1.0", np.c_[x.round(3), y].tolist())
    write("text.csv", "a,b,y", [(u, "abc", k) for u, k in zip(a, y)])
    (folder / "empty.csv").write_text("")
    (folder / "fake.csv.gz").write_text("a,b,y\n1,2,3\n")
    (folder / "binary.csv").write_bytes(b"a,b,y\n1,\x00,0\n")
    (folder / "folder.csv").mkdir()
    np.save(folder / "rows.npy", x)
    np.savez(folder / "holes.npz", x=np.where(np.arange(84).reshape(42, 2) == 7, np.nan, x), y=y)
    (folder / "cut.npz").write_bytes((folder / "model.npz").read_bytes()[:300])


def command(arguments: str, run: str) -> Said:
    """One call of the command in this process."""
    from jaxland import cli

    out, err = io.StringIO(), io.StringIO()
    words = [run if word == "RUN" else word for word in arguments.split()]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.run(words)
        code = "0"
    except SystemExit as leave:
        code = str(leave.code or 0)
    except BaseException as error:
        return Said(arguments, type(error).__name__, str(error).partition("\n")[0])
    lines = [line.strip(" │") for line in (err.getvalue() + out.getvalue()).splitlines()]
    frame = ("Usage:", "Try ", "╭", "╰", "note: mlp", "note: column", "Help")
    lines = [line for line in lines if line and not line.startswith(frame)]
    return Said(arguments, code, lines[0].replace(run, "RUN") if lines else "")


def calls() -> dict[str, tuple[Callable[[], object], str]]:
    """Calls of the API, and words of the answer."""
    import jax.numpy as jnp
    import numpy as np

    from jaxland import Problem, from_function, hessian, information, mlp, trim
    from jaxland.data import load
    from jaxland.landscape import explore

    rng = np.random.default_rng(0)
    x = rng.normal(size=(42, 2))
    y = (x[:, 0] > 0).astype(int)
    model, line = mlp((2, 3, 2)), from_function(lambda p, v: v @ p["w"], {"w": jnp.zeros((2, 1))})
    problem = Problem.from_model(model, x, y)
    of, nan = Problem.from_model, float("nan")
    return {
        "mlp((3, 2.5, 2))": (lambda: mlp((3, 2.5, 2)), "whole numbers"),
        "mlp(3)": (lambda: mlp(3), "at least two widths"),
        "Problem.from_model(lambda, x, y)": (lambda: of(lambda v: v, x, y), "wrap it with jaxland.from_function"),
        "Problem.from_model(model, x, 'good'/'bad')": (
            lambda: of(model, x, np.where(y, "good", "bad")),
            "y must hold numbers",
        ),
        "Problem.from_model(model, x[:, 0], y)": (lambda: of(model, x[:, 0], y), "x must have shape [n, 2]"),
        "Problem.from_model(model, wide x, y)": (lambda: of(model, np.c_[x, x], y), "got (42, 4)"),
        "Problem.from_model(model, ragged list, y)": (
            lambda: of(model, [[1.0, 2.0], [3.0]], [0, 1]),
            "different lengths",
        ),
        "Problem.from_model(..., l2=nan)": (lambda: of(model, x, y, l2=nan), "l2 must be a finite number"),
        "Problem.from_model(..., chunk=0)": (lambda: of(model, x, y, chunk=0), "chunk must be a whole number"),
        "Problem.from_model(..., loss of shape [])": (
            lambda: of(line, x, y, loss=lambda o, t: jnp.mean((o[:, 0] - t) ** 2)),
            "leave the mean over the rows",
        ),
        "Problem.from_model(..., loss of shape [n, 1])": (
            lambda: of(line, x, y[:, None], loss=lambda o, t: (o - t) ** 2),
            "drop its last axis",
        ),
        "Problem.from_model(..., loss that mixes rows)": (
            lambda: of(line, x, y, loss=lambda o, t: ((o - t) ** 2).sum(-1)),
            "mixes rows",
        ),
        "Problem.from_model(..., loss in NumPy)": (
            lambda: of(line, x, y, loss=lambda o, t: np.square(np.asarray(o)[:, 0] - t)),
            "write it with jax.numpy",
        ),
        "problem.at(nan)": (lambda: problem.at(nan), "one vector"),
        "problem.at(vector of nan)": (lambda: problem.at(np.full(problem.size, nan)), "parameter 0 is not finite"),
        "problem.energy(short vector)": (lambda: problem.energy(np.zeros(3)), "vector of 17 parameters"),
        "problem.predict(None, wide x)": (lambda: problem.predict(None, np.c_[x, x]), "rows of shape (2,)"),
        "explore(model)": (lambda: explore(model), "explore takes a Problem"),
        "explore(problem, progress=True)": (lambda: explore(problem, progress=True), "progress must be a function"),
        "explore(problem, minima=-1)": (lambda: explore(problem, minima=-1), "minima must not be negative"),
        "explore(problem, hops='two')": (lambda: explore(problem, hops="two"), "hops must be a whole number"),
        "hessian.curvature(model)": (lambda: hessian.curvature(model), "curvature takes a Problem"),
        "trim.attribute(f, text)": (lambda: trim.attribute(lambda v: v, np.array([["a"]])), "real numbers"),
        "mutual_information(x, y[:5])": (lambda: information.mutual_information(x[:, 0], x[:30, 1]), "pair up"),
        "mutual_information(..., bootstraps=nan)": (
            lambda: information.mutual_information(x[:, 0], x[:, 1], bootstraps=nan),
            "bootstraps must be a whole number",
        ),
        **more_calls(x, y, problem),
        "load(table, rows=100000)": (lambda: load((x, y), rows=100_000), "rows must lie within 1..42"),
        "load(table, task='sort')": (lambda: load((x, y), task="sort"), "task takes classify"),
    }


def more_calls(x: np.ndarray, y: np.ndarray, problem: Problem) -> dict[str, tuple[Callable[[], object], str]]:
    """Odd calls of attributions, transforms, curvatures and information."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxland import Problem, from_function, hessian, information, mlp, trim
    from jaxland.landscape import Store, explore

    model, of, some = mlp((2, 3, 2)), Problem.from_model, (x[:2], y[:2])
    curved = hessian.curvature(problem)
    explain = lambda f=jnp.sin, rows=x[:2], **k: trim.attribute(lambda v: f(v).sum(1), rows, **k)  # noqa: E731
    loop = from_function(
        lambda p, v: jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] @ p["w"]), (0, v))[1],
        {"w": np.eye(2)},
    )
    influence = hessian.influence
    mi = information.mutual_information
    return {
        "Problem.from_model(while loop)": (lambda: of(loop, x, y), "cannot run backwards"),
        "Problem.from_model(.., one-hot y)": (lambda: of(model, x, np.eye(2)[y]), "class indices y of shape [n]"),
        "Problem.from_model(.., y -1/1)": (lambda: of(model, x, 2 * y - 1), "labels must be integers 0..1"),
        "Problem.from_model(.., generator)": (lambda: of(model, (r for r in x), y), "x must hold numbers"),
        "problem.at(complex)": (lambda: problem.at(np.zeros(problem.size) * 1j), "w is complex"),
        "problem.at('zeros')": (lambda: problem.at("zeros"), "w must be a vector"),
        "problem.predict(None, nan)": (lambda: problem.predict(None, x * np.nan), "x is not finite in row 0"),
        "from_energy(f, 0)": (lambda: Problem.from_energy(jnp.sum, 0), "n must be an integer, at least 1"),
        "from_energy(dict)": (lambda: Problem.from_energy(lambda w: {"e": w[0]}, 2), "it returns a dict"),
        "from_energy(w > 0)": (lambda: Problem.from_energy(lambda w: w[0] > 0, 2), "a real number, it returns bool"),
        "explore(seed=-1)": (lambda: explore(problem, seed=-1), "seed must not be negative"),
        "explore(time_limit=nan)": (lambda: explore(problem, time_limit=float("nan")), "time_limit must be above 0"),
        "explore(box reversed)": (lambda: explore(problem, box=(2, -2)), "low below high"),
        "explore(box of 3)": (lambda: explore(problem, box=(np.zeros(3), np.ones(3))), "a vector of 17 coordinates"),
        "Store(no store)": (lambda: Store("table.csv", problem), "not a jaxland store"),
        "attribute(complex x)": (lambda: explain(rows=x * 1j), "real numbers"),
        "attribute(no rows)": (lambda: explain(rows=x[:0]), "no rows"),
        "attribute(truth values, ig)": (lambda: trim.attribute(lambda v: v[:, 0] > 0, x), "cannot differentiate"),
        "attribute(nodes=2.5)": (lambda: explain(nodes=2.5), "nodes must be a whole number"),
        "attribute(noise='much')": (lambda: explain(method="smoothgrad", noise="much"), "noise must be a finite"),
        "attribute(seed=-1)": (lambda: explain(method="smoothgrad", seed=-1), "seed must not be negative"),
        "attribute(transform='dwt')": (lambda: explain(transform="dwt"), "transform must be one of"),
        "attribute(chunk='big')": (lambda: explain(chunk="big"), "chunk must be a whole number"),
        "attribute(baseline=1j)": (lambda: explain(baseline=1j), "complex"),
        "attribute(groups=[])": (lambda: explain(groups=[]), "groups must number coefficients"),
        "attribute(target='a')": (lambda: trim.attribute(lambda v: v, x, target="a"), "target must be an index"),
        "rfft(8.5)": (lambda: trim.rfft(8.5), "positive sizes"),
        "rfft('8')": (lambda: trim.rfft("8"), "positive sizes"),
        "linear(nan)": (lambda: trim.linear(np.eye(2) * np.nan), "not finite"),
        "compose(None)": (lambda: trim.compose(None), "compose takes transforms"),
        "curvature(damping='big')": (lambda: hessian.curvature(problem, damping="big"), "damping must be finite"),
        "influence(model, ..)": (lambda: influence(model, x), "influence takes a Curvature, got Model"),
        "influence(y of text)": (lambda: influence(curved, (x[:2], ["a", "b"])), "test y must hold numbers"),
        "influence(y = 7)": (lambda: influence(curved, (x[:2], [0, 7])), "labels must be integers 0..1"),
        "influence(y = .5)": (lambda: influence(curved, (x[:2], [0.5, 1])), "labels must be integers 0..1"),
        "influence(no rows)": (lambda: influence(curved, (x[:0], y[:0])), "test x has no rows"),
        "influence(top=1.5)": (lambda: influence(curved, some, top=1.5), "top must be a whole number"),
        "influence(batch=0)": (lambda: influence(curved, some, batch=0), "batch must be at least 1"),
        "influence(target='a')": (lambda: influence(curved, x, of="logit", target="a"), "target must be a whole"),
        "influence(of=whole outputs)": (lambda: influence(curved, x, of=lambda o, t: o), "one real number a row"),
        "uncertainty(None)": (lambda: hessian.uncertainty(curved, None), "test x is missing"),
        "uncertainty(samples='many')": (
            lambda: hessian.uncertainty(curved, x, method="resample", samples="many"),
            "samples must be a whole number",
        ),
        "extrapolation(m=1.5)": (lambda: hessian.extrapolation(curved, x, m=1.5), "m must be a whole number"),
        "mutual_information(complex)": (lambda: mi(x[:, 0] * 1j, x[:, 1]), "complex numbers"),
        "mutual_information(20 columns of 42 rows)": (
            lambda: mi(np.random.default_rng(1).normal(size=(42, 20)), x[:, 0]),
            "21 columns together: one Gaussian over them has 252 parameters",
        ),
        "mutual_information(3-D)": (lambda: mi(x.reshape(21, 2, 2), x[:21, 0]), "shape [N] or [N, d]"),
        "mutual_information(orders=())": (lambda: mi(x[:, 0], x[:, 1], orders=()), "orders"),
    }


def call(name: str, make: Callable[[], object]) -> Said:
    """One call of the API."""
    from jaxland.errors import JaxlandError

    try:
        make()
    except JaxlandError as error:
        return Said(name, type(error).__name__, str(error).partition("\n")[0])
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Said(name, f"RAW {type(error).__name__}", f"{str(error).partition(chr(10))[0]} ({where.name})")
    return Said(name, "accepted", "")


def everything() -> Iterator[tuple[Said, str]]:
    """What every call gives, and the words that are right."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        files(Path(folder))
        for number, (arguments, words) in enumerate(COMMANDS.items()):
            yield command(arguments, f"run{number}"), words
        for name, (make, words) in calls().items():
            yield call(name, make), words
        os.chdir("/")


def main() -> None:
    """Print the tables."""
    for said, words in everything():
        if "--json" in sys.argv:
            print(json.dumps([*said, words]), flush=True)
        else:
            mark = "" if words in said.line else f"   [expected: {words}]"
            print(f"{said.call}\n    {said.outcome}: {said.line[:200]}{mark}", flush=True)


if __name__ == "__main__":
    main()
