"""Where a long computation stands, for whoever wants to know: a bar in a notebook, TensorBoard, any logger.

``explore``, ``minimum_energy_path``, ``connect_minima``, ``extreme_modes`` and ``trim.attribute`` take ``progress``:
called as they go on, with a record of numbers or with (done, total).

    explore(problem, progress=progress.bar())
    explore(problem, progress=progress.scalars(SummaryWriter("runs/a").add_scalar))    # TensorBoard, tensorboardX
    explore(problem, progress=progress.scalars(lambda tag, value, step: wandb.log({tag: value}, step=step)))
    explore(problem, progress=progress.each(progress.bar(), print))

>>> seen = []
>>> tell = scalars(lambda tag, value, step: seen.append((tag, value, step)), "trim")
>>> tell(3, 10)
>>> seen
[('trim/done', 3.0, 0), ('trim/total', 10.0, 0)]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from jaxland.errors import DependencyError

# What ``progress=`` takes: called with a record of numbers, or with (done, total).
Progress = Callable[..., object]


def numbers(*standing: Any) -> dict[str, float]:
    """The numbers of a call by name; texts and what is not known are left out."""
    if len(standing) == 2:
        return {"done": float(standing[0]), "total": float(standing[1])}
    record = standing[0]
    if is_dataclass(record):
        pairs = {f.name: getattr(record, f.name) for f in fields(record)}
    else:
        pairs = record._asdict() if hasattr(record, "_asdict") else dict(vars(record))
    return {k: float(v) for k, v in pairs.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def scalars(write: Callable[[str, float, int], object], name: str = "jaxland") -> Progress:
    """Every number of every call to ``write(tag, value, step)``, the signature of ``SummaryWriter.add_scalar``."""
    step = -1

    def tell(*standing: Any) -> None:
        nonlocal step
        step += 1
        for key, value in numbers(*standing).items():
            write(f"{name}/{key}", value, step)

    return tell


def each(*listeners: Progress) -> Progress:
    """One that calls all of these."""

    def tell(*standing: Any) -> None:
        for listener in listeners:
            listener(*standing)

    return tell


def bar(description: str = "jaxland") -> Progress:
    """A progress bar of tqdm: of widgets in a notebook, of text in a terminal.

    Raises:
        DependencyError: tqdm is not installed.
    """
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise DependencyError.of("tqdm", "notebook") from error
    shown: Any = None

    def tell(*standing: Any) -> None:
        nonlocal shown
        facts = numbers(*standing)
        done, total = facts.pop("done", None), facts.pop("total", None)
        if shown is None:
            shown = tqdm(desc=description, total=total or None)
        stage = getattr(standing[0], "stage", None)
        if stage is not None:
            shown.set_description_str(f"{description}: {stage}", refresh=False)
        if total and total != shown.total:
            shown.total = total
        shown.n = int(done) if done is not None else shown.n + 1
        shown.set_postfix({k: f"{v:.6g}" for k, v in facts.items()}, refresh=False)
        shown.refresh()
        if done is not None and total and done >= total and stage is None:
            shown.close()

    return tell
