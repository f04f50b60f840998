"""``jaxland plan | work | status | merge | report``: one search by any number of workers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from jaxland.cli.recipe import Recipe


def register(app: typer.Typer) -> None:
    """Add the commands; ``explore`` must be registered already, since ``plan`` takes its options."""
    explore = next(command.callback for command in app.registered_commands if command.callback.__name__ == "explore")  # type: ignore[union-attr]

    def plan(**options: Any) -> None:
        """Write down a search without running it: then start any number of `jaxland work RUN`.

        Takes the options of `jaxland explore`.
        """
        from jaxland.cli.explore import describe
        from jaxland.landscape import Store
        from jaxland.landscape.search.workers import Spool

        out = options["out"]
        chosen = {name: options[name] for name in Recipe.__dataclass_fields__}
        chosen.update({name: tuple(options[name] or ()) for name in ("categorical", "drop")})
        recipe = Recipe(**chosen)
        describe(recipe, options["quiet"])
        with Store(out / "landscape.db", recipe.problem):
            recipe.save(out)
            Spool(out).reopen()
        typer.echo(f"planned: {out}; now run `jaxland work {out}` on any number of machines that see it")

    parameters = inspect.signature(explore, eval_str=True).parameters  # type: ignore[arg-type]
    kept = [p for name, p in parameters.items() if name not in ("time_limit", "threshold")]
    plan.__signature__ = inspect.Signature(kept)  # type: ignore[attr-defined]
    plan.__annotations__ = {p.name: p.annotation for p in kept}
    app.command()(plan)

    @app.command()
    def work(
        run: Annotated[Path, typer.Argument(help="Directory of a planned run, shared by all workers.")],
        workers: Annotated[int, typer.Option(help="Processes to start here, one thread each.")] = 1,
        time_limit: Annotated[float | None, typer.Option(help="Seconds; others, or a later call, go on.")] = None,
        lease: Annotated[float, typer.Option(help="Seconds after which a silent worker's jobs are taken over.")] = 60,
        quiet: Annotated[bool, typer.Option("--quiet", help="No progress display.")] = False,
    ) -> None:
        """Take part in a search until it is finished. Workers may come and go: the database does not depend on it."""
        from jaxland.cli.explore import Display
        from jaxland.core.solvers.lanes import Layout
        from jaxland.errors import ArgumentError
        from jaxland.landscape.search.workers import work

        if workers < 1:
            raise ArgumentError(f"--workers must be at least 1, got {workers}")
        recipe = Recipe.load(run)
        others = [_start(run, time_limit, lease) for _ in range(workers - 1)]
        with Display(quiet, recipe.minima or None, time_limit) as display:
            done = work(
                recipe.problem,
                run,
                recipe.settings,
                box=recipe.box,
                lease=lease,
                stop=display.stop,
                progress=display.update,
                layout=Layout(8, 64, 1, 1) if workers > 1 else None,
            )
        for process in others:
            process.wait()
        typer.echo(f"{done} batches done here; `jaxland status {run}`, then `jaxland report {run}`")

    @app.command()
    def status(run: Annotated[Path, typer.Argument(help="Directory of a run.")]) -> None:
        """What a run has found so far, how complete it is, and who is working on it."""
        from jaxland.landscape.interchange import archive
        from jaxland.landscape.search.completeness import Completeness
        from jaxland.landscape.search.workers import Spool, claims

        landscape = archive.read(run)
        typer.echo(landscape.describe())
        for what, facts in landscape.statistics.get("completeness", {}).items():
            typer.echo(Completeness(**facts).describe(what.replace("_", " ")))
        rounds = landscape.statistics.get("rounds", [])
        if rounds:
            last = rounds[-1]
            typer.echo(
                f"{len(rounds)} rounds; the last: {last['kind']}, {last['done']} of {last['total']} jobs merged"
            )
        spool = Spool(run)
        if spool.finished:
            typer.echo("finished")
        elif spool.path.exists():
            counts = spool.status()
            typer.echo(f"batches: {counts['done']} done, {counts['claimed']} running, {counts['open']} open")
            for batch, worker, silent in claims(run):
                typer.echo(f"  {batch}: {worker}, last heard of {silent:.0f} s ago")

    @app.command()
    def merge(
        runs: Annotated[list[Path], typer.Argument(help="Runs of one problem, searched independently.")],
        out: Annotated[Path, typer.Option(help="Run that takes them all in; a search may go on from it.")],
    ) -> None:
        """Unite independent runs of one problem. In any order, any number of times: the result is the same."""
        from jaxland.landscape import Store
        from jaxland.landscape.search.merge import absorb

        recipe = Recipe.load(runs[0])
        with Store(out / "landscape.db", recipe.problem) as store:
            news = absorb(store, [run / "landscape.db" for run in runs])
            landscape = store.landscape()
        if not (out / "run.json").exists():
            recipe.save(out)
        for run, (minima, saddles) in news.items():
            typer.echo(f"{run.parent}: {minima} new minima, {saddles} new transition states")
        typer.echo(landscape.describe())

    @app.command()
    def report(
        run: Annotated[Path, typer.Argument(help="Directory of a run, finished or not.")],
        threshold: Annotated[
            float, typer.Option(help="Standard deviation below which a weight is conserved.")
        ] = 0.01,
        quiet: Annotated[bool, typer.Option("--quiet", help="Path of the report only.")] = False,
    ) -> None:
        """Write the report of what a run has found so far."""
        from jaxland.cli.explore import report as write
        from jaxland.landscape import Store

        recipe = Recipe.load(run)
        with Store(run / "landscape.db", recipe.problem) as store:
            found = store.landscape()
        typer.echo(f"report: {write(recipe, found, run, threshold, quiet)}")


def _start(run: Path, time_limit: float | None, lease: float) -> Any:
    import subprocess
    import sys

    limit = [] if time_limit is None else ["--time-limit", str(time_limit)]
    return subprocess.Popen(
        [sys.executable, "-m", "jaxland", "work", str(run), "--quiet", "--lease", str(lease), *limit],
        stdout=subprocess.DEVNULL,
    )
