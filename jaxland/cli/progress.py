"""What the commands of a search show while they run: lines, a spinner, a progress bar that sees Ctrl-C."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
            console.print(line, highlight=False, markup=False)


def spinner(quiet: bool, text: str) -> AbstractContextManager[object]:
    """While something without a known length runs."""
    from rich.console import Console

    return nullcontext() if quiet else Console().status(text)


class Display:
    """Progress bar and Ctrl-C: the first asks the search to stop between two commits, the second kills it."""

    stop: Stop

    def __init__(self, quiet: bool, minima: int | None, time_limit: float | None) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.target, self.time_limit, self._stack = minima, time_limit, ExitStack()
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

    def update(self, p: Standing) -> None:
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
        name = STAGES.get(p.stage, p.stage)
        self.bar.update(self.task, description=name, total=p.total, completed=p.done, facts=facts)

    def __enter__(self) -> Display:
        from jaxland.runs import stoppable

        self.stop = self._stack.enter_context(stoppable(self.time_limit))
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self._stack.close()
