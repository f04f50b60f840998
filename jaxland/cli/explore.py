"""``jaxland explore``: from a table to the landscape of a network's loss, its conserved weights, and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def explore(
        source: Annotated[
            str,
            typer.Argument(help="CSV or npz file, or built-in data: checkerboard, xor, breast_cancer, wine, digits."),
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
        minima: Annotated[int, typer.Option(help="Stop when so many minima are joined to the lowest.")] = 200,
        starts: Annotated[int, typer.Option(help="Random quenches.")] = 200,
        climbs: Annotated[int, typer.Option(help="Transition-state searches from random points.")] = 100,
        rounds: Annotated[int, typer.Option(help="Most rounds of expansion and bands.")] = 100,
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
        import jax.numpy as jnp

        from jaxland import datasets, mlp
        from jaxland.errors import ArgumentError
        from jaxland.landscape import Store, conserved_weights
        from jaxland.landscape.performance import values
        from jaxland.landscape.search import Search, Settings
        from jaxland.models import save
        from jaxland.problem import Problem

        try:
            layers = [int(part) for part in hidden.split(",")]
        except ValueError as error:
            raise ArgumentError(f"--hidden takes widths such as 8 or 8,4, got {hidden!r}") from error
        data = datasets.load(
            source,
            target,
            categorical=categorical or None,
            drop=drop or None,
            missing=missing,
            constant=constant,
            seed=seed,
        )
        if source == "xor":
            scale, test_fraction = "none", 0.0
        parts = data.split(test_fraction, seed, scale=scale, train_rows=rows)
        train, test = parts.train, parts.test
        model = mlp((train.d, *layers, train.outputs), activation)
        loss = "cross_entropy" if train.task == "classification" else "squared_error"
        problem = Problem.from_model(model, train.x, train.y, loss=loss, l2=lam)
        _say(quiet, f"{train.describe()}")
        _say(quiet, f"{model.name}: {problem.size} parameters, L2 weight {lam:g}; {problem.kernel.name} kernel")

        settings = Settings(
            seed=seed, starts=starts, climbs=climbs, rounds=rounds, minima=minima, pairs=32, expand=16
        )
        with Store(out / "landscape.db", problem) as store:
            with _Display(quiet, minima) as display:
                search = Search(
                    store, settings, progress=display.update, time_limit=time_limit, should_stop=display.stopped
                )
                found = search.run()
            if search.interrupted:
                _say(quiet, "Stopped early; the same command continues from here.")
        _say(quiet, found.describe())
        found.to_pandas().to_csv(out / "minima.csv")
        found.to_pandas("transition_states").to_csv(out / "transition_states.csv")
        save(
            out / "model.npz",
            model,
            problem.unravel(jnp.asarray(found.best)),
            features=list(train.features),
            classes=list(train.classes),
            target=train.target,
            loss=loss,
            l2=lam,
            rows=train.n,
            centre=None if train.scaling is None else train.scaling.centre.tolist(),
            scale=None if train.scaling is None else train.scaling.scale.tolist(),
        )
        with _spinner(quiet, "conserved weights, null groups, validation"):
            conserved = conserved_weights(
                found.connected(),
                threshold=threshold,
                seed=seed,
                test=None if test is None else (test.x, test.y),
                features=train.features,
                sources=train.sources,
                classes=train.classes or None,
            )
        with _spinner(quiet, "report"):
            measured = None if test is None else values(found, test)
            if measured is not None:
                measured.to_pandas().to_csv(out / "values.csv")
            path = _report(found, conserved, train, test, measured, out)
        typer.echo(f"report: {path}")


def _report(found: Any, conserved: Any, train: Any, test: Any, measured: Any, out: Path) -> Path:
    import shlex
    import sys

    from jaxland.report.landscape import explore_report, save_figures

    save_figures(conserved, out, data=train, test=test)
    command = shlex.join(["jaxland", *sys.argv[1:]])
    return explore_report(
        found, conserved, out / "report.html", data=train, test=test, measured=measured, command=command
    )


def _say(quiet: bool, text: str) -> None:
    if not quiet:
        from rich.console import Console

        Console().print(text, highlight=False, markup=False)


def _spinner(quiet: bool, text: str) -> Any:
    from contextlib import nullcontext

    from rich.console import Console

    return nullcontext() if quiet else Console().status(text)


class _Display:
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

    def __init__(self, quiet: bool, minima: int) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.quiet, self.asked, self.target = quiet, False, minima
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

    def stopped(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self.asked

    def update(self, p: Any) -> None:
        """Show where the search stands."""
        self._rate = self._rate or (p.seconds, p.connected)
        since, base = self._rate
        rate = (p.connected - base) / max(p.seconds - since, 1e-9)
        left = (
            f", about {(self.target - p.connected) / rate:.0f} s left"
            if rate > 0 and p.connected < self.target
            else ""
        )
        facts = (
            f"{p.minima} minima, {p.saddles} transition states, {p.connected} of {self.target} connected, "
            f"{p.components} components, best {p.best:.6f}, "
            f"{(p.minima + p.saddles) / max(p.seconds, 1e-9):.1f}/s{left}"
        )
        name = self._NAMES.get(p.stage, p.stage)
        self.bar.update(self.task, description=name, total=p.total, completed=p.done, facts=facts)

    def __enter__(self) -> _Display:
        import signal
        import threading

        self._signal: Any = signal
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.getsignal(signal.SIGINT)
            signal.signal(signal.SIGINT, self._interrupt)
        self.bar.start()
        return self

    def _interrupt(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        if self._main:
            self._signal.signal(self._signal.SIGINT, self._before)
