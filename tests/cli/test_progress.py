"""The progress display: what it says, within 80 columns."""

import io

import pytest
from rich.console import Console

from jaxland.cli.progress import STAGES, Display
from jaxland.landscape.search.rounds import Progress

LATE = Progress(
    stage="climb",
    round=12,
    done=1234,
    total=20480,
    minima=123456,
    saddles=234567,
    connected=98765,
    components=1234,
    best=-44.326801,
    seconds=4000.0,
)


def shown(*standings, **options):
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    display = Display(True, options.get("minima"), options.get("time_limit"), console)
    for standing in standings:
        display.update(standing)
    with console.capture() as seen:
        console.print(display)
    return Console(width=80).render_str(seen.get()).plain.splitlines()


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_fits_into_80_columns(stage):
    early = LATE._replace(seconds=1000.0, connected=1000)
    lines = shown(early, LATE._replace(stage=stage), minima=200000, time_limit=9999.0)
    assert len(lines) == 3 and STAGES[stage] in lines[0]
    assert not any("…" in line for line in lines)
    assert "123456 minima, 234567 transition states, 98765 of 200000 connected" in lines[1]
    assert "best -44.3268, 1234 components, 89.5/s" in lines[2] and "stops in 1:39:59" in lines[2]


def test_before_anything_is_found():
    assert shown()[0].strip().startswith(("⠋", "compiling")) or "compiling" in shown()[0]
    none = LATE._replace(stage="random", minima=0, saddles=0, connected=0, components=0, best=float("nan"), done=3)
    lines = shown(none)
    assert "random quenches" in lines[0] and "3 of 20480" in lines[0] and "nothing found yet" in lines[1]
