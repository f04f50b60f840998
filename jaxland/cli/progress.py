"""What the commands of a search show while they run: lines, a spinner, a progress display that sees Ctrl-C."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from jaxland.landscape.search.explore import Progress as Standing
    from jaxland.runs import Stop

STAGES = {
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


def say(quiet: bool, *lines: str) -> None:
    """Print lines, unless quiet."""
    if not quiet:
        from rich.console import Console

        console = Console()
        for line in lines:
            # A terminal gets whole words; what reads a pipe, whole lines.
            console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def say_report(page: Path, quiet: bool) -> None:
    """Where the report is: the last line, and the only one of a quiet command."""
    typer.echo(str(page) if quiet else f"report: {page}")


def spinner(quiet: bool, text: str) -> AbstractContextManager[object]:
    """While something without a known length runs."""
    from rich.console import Console

    return nullcontext() if quiet else Console().status(text)


def _clock(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Display:
    """Three lines of progress, at most 80 columns, and Ctrl-C: the first asks the search to stop between two commits,
    the second kills it.

    Args:
        quiet: show nothing.
        minima: joined to the lowest that are asked for, if any.
        time_limit: seconds, if any.
        console: to draw on; default the terminal.
    """

    stop: Stop

    def __init__(
        self, quiet: bool, minima: int | None, time_limit: float | None, console: Console | None = None
    ) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.target, self.time_limit, self._stack = minima, time_limit, ExitStack()
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=15),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self.task = self.bar.add_task("compiling", total=None, count="")
        self.facts: list[str] = []
        self._first: Standing | None = None
        self._live = None if quiet else Live(self, console=console, refresh_per_second=8)
        self._lines_end = self._live is not None and not self._live.console.is_terminal

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield self.bar.get_renderable()
        for line in self.facts:
            yield Text(line, no_wrap=True, overflow="ellipsis")

    def update(self, p: Standing) -> None:
        """Show where the search stands."""
        if p.total and self._first is None:
            self._first = p
        name = STAGES.get(p.stage, p.stage)
        self.bar.update(self.task, description=name, total=p.total, completed=p.done, count=f"{p.done} of {p.total}")
        if not p.minima:
            self.facts = ["  nothing found yet"]
            return
        target = f" of {self.target}" if self.target else ""
        rate = (p.minima + p.saddles) / max(p.seconds, 1e-9)
        pieces = [f"best {p.best:.6g}", f"{p.components} components", f"{rate:.1f}/s", *self._left(p)]
        self.facts = [
            f"  {p.minima} minima, {p.saddles} transition states, {p.connected}{target} connected",
            f"  {', '.join(pieces)}",
        ]

    def _left(self, p: Standing) -> list[str]:
        """What remains: until the minima are there, at the rate of this run, and until the time is up."""
        left = []
        first = self._first or p
        rate = (p.connected - first.connected) / max(p.seconds - first.seconds, 1e-9)
        if self.target and rate > 0 and p.connected < self.target:
            left.append(f"about {_clock((self.target - p.connected) / rate)} left")
        if self.time_limit is not None:
            left.append(f"stops in {_clock(max(0.0, self.time_limit - p.seconds))}")
        return left

    def __enter__(self) -> Display:
        from jaxland.runs import stoppable

        self.stop = self._stack.enter_context(stoppable(self.time_limit))
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            if self._lines_end:
                self._live.console.print()
        self._stack.close()
