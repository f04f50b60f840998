"""``jaxland plan | work | status | merge``: one search by any number of workers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from jaxland.cli.explore import Json, Out, Searching, Source, account, numbers, settled
from jaxland.cli.options import spread
from jaxland.cli.progress import Display, say
from jaxland.cli.recipe import FILE, SEARCH, Recipe
from jaxland.cli.standard_input import from_pipe
from jaxland.data.options import SplitOptions, TableOptions
from jaxland.landscape.search.settings import WorkOptions
from jaxland.models.options import NetworkOptions

Quiet = Annotated[bool, typer.Option("--quiet", help="No progress display.")]


@spread
def plan(
    source: Source,
    out: Out,
    table: TableOptions,
    rows: SplitOptions,
    network: NetworkOptions,
    settings: Searching = SEARCH,
    quiet: Quiet = False,
) -> None:
    """Write down a search without running it: then start any number of `jaxland work RUN`.

    Takes the options of `jaxland explore`.
    """
    from jaxland.landscape import Store
    from jaxland.landscape.search.workers import Spool

    source = from_pipe(source, out, kept=True)
    recipe = Recipe(source, table=table, rows=rows, network=network, search=settings)
    recipe = settled(recipe, out, quiet)
    say(quiet, *recipe.describe())
    with Store(out / "landscape.db", recipe.problem):
        recipe.save(out)
        Spool(out).reopen()
    typer.echo(f"planned: {out}; now run `jaxland work {out}` on any number of machines that see it")


@spread
def work(
    run: Annotated[Path, typer.Argument(help="Directory of a planned run, shared by all workers.")],
    options: WorkOptions,
    quiet: Quiet = False,
) -> None:
    """Take part in a search until it is finished. Workers may come and go: the database does not depend on it.

    With --on the workers are jobs of SLURM or processes of a Dask cluster; they need to see the directory.
    """
    from jaxland.core.solvers.protocol import Layout
    from jaxland.landscape.search.workers import work as take_part

    recipe = Recipe.load(run)
    if options.on != "here":
        from jaxland.cli.engines import SUBMITIT, through_dask, through_submitit

        through = through_submitit if options.on in SUBMITIT else through_dask
        done = through(run, options, lambda line: say(quiet, line))
        typer.echo(f"{done} batches done there; `jaxland status {run}`, then `jaxland report {run}`")
        return
    others = [_start(run, options) for _ in range(options.workers - 1)]
    with Display(quiet, recipe.settings.minima, options.time_limit) as display:
        done = take_part(
            recipe.problem,
            run,
            recipe.settings,
            box=recipe.box,
            lease=options.lease,
            stop=display.stop,
            progress=display.update,
            layout=Layout(8, 4096, 1, 1) if others else None,
        )
    for process in others:
        process.wait()
    typer.echo(f"{done} batches done here; `jaxland status {run}`, then `jaxland report {run}`")


def status(
    run: Annotated[Path, typer.Argument(help="Directory of a run.")],
    json_: Json = False,
) -> None:
    """What a run has found so far, how complete it is, and who is working on it."""
    from jaxland.landscape.interchange import archive
    from jaxland.landscape.search.workers import Spool, claims

    landscape = archive.read(run)
    if json_:
        spool = Spool(run)
        batches = spool.status() if spool.path.exists() and not spool.finished else {}
        typer.echo(json.dumps({**numbers(landscape), "finished": spool.finished, "batches": batches}, indent=2))
        return
    typer.echo(landscape.describe())
    for line in account(landscape):
        typer.echo(line)
    rounds = landscape.statistics.get("rounds", [])
    if rounds:
        last = rounds[-1]
        typer.echo(f"{len(rounds)} rounds; the last: {last['kind']}, {last['done']} of {last['total']} jobs merged")
    spool = Spool(run)
    if spool.finished:
        typer.echo("finished")
    elif spool.path.exists():
        counts = spool.status()
        typer.echo(f"batches: {counts['done']} done, {counts['claimed']} running, {counts['open']} open")
        for batch, worker, silent in claims(run):
            typer.echo(f"  {batch}: {worker}, last heard of {silent:.0f} s ago")


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
    if not (out / FILE).exists():
        recipe.save(out)
    for run, (minima, saddles) in news.items():
        typer.echo(f"{run.parent}: {minima} new minima, {saddles} new transition states")
    typer.echo(landscape.describe())


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (plan, work, status, merge):
        app.command()(command)


def _start(run: Path, options: WorkOptions) -> subprocess.Popen[bytes]:
    """One more worker, in a process of its own."""
    limit = [] if options.time_limit is None else ["--time-limit", str(options.time_limit)]
    return subprocess.Popen(
        [sys.executable, "-m", "jaxland", "work", str(run), "--quiet", "--lease", str(options.lease), *limit],
        stdout=subprocess.DEVNULL,
    )
