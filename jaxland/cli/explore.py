"""``jaxland explore``: from a table to the landscape of a network's loss, its conserved weights, and a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxland.cli.recipe import Recipe

if TYPE_CHECKING:
    from jaxland.landscape.result import Landscape
    from jaxland.runs import Stop


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def explore(
        source: Annotated[
            str,
            typer.Argument(
                help="CSV or npz file; built-in checkerboard, xor, breast_cancer, wine, digits; or lj13, morse8."
            ),
        ],
        out: Annotated[Path, typer.Option(help="Directory of the run; a second call with it continues.")],
        target: Annotated[str | None, typer.Option(help="Column to predict.")] = None,
        hidden: Annotated[str, typer.Option(help="Hidden units; several layers as 8,4.")] = "5",
        activation: Annotated[str, typer.Option(help="tanh, sigmoid, gelu, softplus, sin or relu.")] = "tanh",
        lam: Annotated[float, typer.Option(help="Weight of the sum of squared parameters.")] = 1e-4,
        rows: Annotated[int | None, typer.Option(help="Training rows, drawn by seed; default all.")] = None,
        test_fraction: Annotated[float, typer.Option(help="Part of the rows kept for testing.")] = 0.3,
        scale: Annotated[str, typer.Option(help="standardise, mean-abs or none.")] = "standardise",
        categorical: Annotated[list[str] | None, typer.Option(help="Column of codes to one-hot; repeatable.")] = None,
        drop: Annotated[list[str] | None, typer.Option(help="Column to ignore; repeatable.")] = None,
        missing: Annotated[str, typer.Option(help="Missing values: refuse, mean, median or mode.")] = "refuse",
        constant: Annotated[str, typer.Option(help="Columns with one value: refuse or drop.")] = "refuse",
        seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
        minima: Annotated[
            int, typer.Option(help="Stop when so many minima are joined to the lowest; 0: when nothing new turns up.")
        ] = 200,
        starts: Annotated[int, typer.Option(help="Random quenches.")] = 200,
        climbs: Annotated[int, typer.Option(help="Transition-state searches from random points.")] = 100,
        rounds: Annotated[int, typer.Option(help="Most rounds of expansion and bands.")] = 100,
        precision: Annotated[
            str, typer.Option(help="Of quenches: double, or mixed (float32, then float64).")
        ] = "double",
        time_limit: Annotated[float | None, typer.Option(help="Seconds of searching; call again to go on.")] = None,
        threshold: Annotated[
            float, typer.Option(help="Standard deviation below which a weight is conserved.")
        ] = 0.01,
        quiet: Annotated[bool, typer.Option("--quiet", help="No progress display.")] = False,
    ) -> None:
        """Map the loss landscape of a small network trained on a table, and read its conserved weights.

        Finds minima and the transition states between them, draws the disconnectivity graph, finds the weights that
        are conserved within its groups, and writes report.html. Ctrl-C stops cleanly; the same command continues.
        """
        recipe = Recipe(
            source=source,
            target=target,
            hidden=hidden,
            activation=activation,
            lam=lam,
            rows=rows,
            test_fraction=test_fraction,
            scale=scale,
            categorical=tuple(categorical or ()),
            drop=tuple(drop or ()),
            missing=missing,
            constant=constant,
            seed=seed,
            minima=minima,
            starts=starts,
            climbs=climbs,
            rounds=rounds,
            precision=precision,
        )
        problem = recipe.problem
        describe(recipe, quiet)
        recipe.save(out)
        found = search(recipe, problem, out, time_limit, quiet)
        typer.echo(f"report: {report(recipe, found, out, threshold, quiet)}")


def describe(recipe: Recipe, quiet: bool) -> None:
    """Say what is explored."""
    problem = recipe.problem
    if recipe.is_potential:
        _say(quiet, f"{recipe.source}: {problem.size} coordinates, symmetry: {problem.symmetry.describe()}")
        return
    _say(quiet, f"{recipe.parts.train.describe()}")
    _say(
        quiet,
        f"{recipe.model.name}: {problem.size} parameters, L2 weight {recipe.lam:g}; {problem.kernel.name} kernel",
    )


def search(recipe: Recipe, problem: Any, out: Path, time_limit: float | None, quiet: bool) -> Any:
    """Explore in this process, with a progress display; Ctrl-C ends it between two commits."""
    from jaxland.landscape import Store
    from jaxland.landscape.search.explore import Search

    with Store(out / "landscape.db", problem) as store:
        with Display(quiet, recipe.minima or None, time_limit) as display:
            running = Search(store, recipe.settings, box=recipe.box, progress=display.update, stop=display.stop)
            found = running.run()
        if running.interrupted:
            _say(quiet, "Stopped early; the same command continues from here.")
    return found


def report(recipe: Recipe, found: Landscape, out: Path, threshold: float, quiet: bool) -> Path:
    """Tables, model and pictures of what was found; path of report.html."""
    from jaxland.landscape.search.completeness import Completeness

    _say(quiet, found.describe())
    for what, facts in found.statistics["completeness"].items():
        _say(quiet, Completeness(**facts).describe(what.replace("_", " ")))
    found.to_pandas().to_csv(out / "minima.csv")
    found.to_pandas("transition_states").to_csv(out / "transition_states.csv")
    if recipe.is_potential:
        from jaxland.report.imported import imported_report

        with _spinner(quiet, "report"):
            return imported_report(found, out, title=f"Landscape of {recipe.source}", energy_label="energy")
    return _report_of_model(recipe, found, out, threshold, quiet)


def _report_of_model(recipe: Recipe, found: Landscape, out: Path, threshold: float, quiet: bool) -> Path:
    from jaxland.landscape import ConservationSettings, interpret
    from jaxland.report.landscape import explore_report, save_figures

    recipe.save_model(out / "model.npz", found.best)
    settings = ConservationSettings(threshold=threshold, seed=recipe.seed)
    with _spinner(quiet, "conserved weights, null groups, validation"):
        told = interpret(found, data=recipe.parts, settings=settings)
    with _spinner(quiet, "report"):
        if told.values is not None:
            told.values.to_pandas().to_csv(out / "values.csv")
        save_figures(told, out)
        return explore_report(told, out / "report.html", command=shlex.join(["jaxland", *sys.argv[1:]]))


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        from rich.console import Console

        Console().print(text, highlight=False, markup=False)


def _spinner(quiet: bool, text: str) -> Any:
    from contextlib import nullcontext

    from rich.console import Console

    return nullcontext() if quiet else Console().status(text)


class Display:
    """Progress bar and Ctrl-C: the first asks the search to stop between two commits, the second kills it."""

    _NAMES = {  # noqa: RUF012
        "random": "random quenches",
        "hop": "basin hopping",
        "climb": "climbing from random points",
        "expand": "climbing out of minima",
        "join": "joining components by bands",
        "nearest": "bands between near minima",
        "untrap": "bands out of traps",
        "lowest": "bands to the lowest minimum",
        "chance": "bands between random pairs",
    }

    stop: Stop

    def __init__(self, quiet: bool, minima: int | None, time_limit: float | None) -> None:
        from contextlib import ExitStack

        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.quiet, self.target, self.time_limit, self._stack = quiet, minima, time_limit, ExitStack()
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            disable=quiet,
            transient=False,
        )
        self.task = self.bar.add_task("compiling", total=None, facts="")
        self._rate: tuple[float, int] | None = None

    def update(self, p: Any) -> None:
        """Show where the search stands."""
        self._rate = self._rate or (p.seconds, p.connected)
        since, base = self._rate
        rate = (p.connected - base) / max(p.seconds - since, 1e-9)
        target = f" of {self.target}" if self.target else ""
        left = (
            f", about {(self.target - p.connected) / rate:.0f} s left"
            if self.target and rate > 0 and p.connected < self.target
            else ""
        )
        facts = (
            f"{p.minima} minima, {p.saddles} transition states, {p.connected}{target} connected, "
            f"{p.components} components, best {p.best:.6f}, "
            f"{(p.minima + p.saddles) / max(p.seconds, 1e-9):.1f}/s{left}"
        )
        name = self._NAMES.get(p.stage, p.stage)
        self.bar.update(self.task, description=name, total=p.total, completed=p.done, facts=facts)

    def __enter__(self) -> Display:
        from jaxland.runs import stoppable

        self.stop = self._stack.enter_context(stoppable(self.time_limit))
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self._stack.close()
