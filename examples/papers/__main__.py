"""The source papers' tables and figures, ours beside theirs.

    python -m examples.papers                     every chapter at full settings, an hour on two cores
    python -m examples.papers trim hessian        two of them
    python -m examples.papers --small             minutes; too small to say anything about a paper
    python -m examples.papers --docs              into docs/papers/

Each chapter runs in a process of its own (they want different precisions) and leaves one page and its figures.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from examples.papers.page import DATA, DOCS, Page

CHAPTERS = ("landscapes", "hessian", "trim", "information", "together")


def run(name: str, out: Path, *, small: bool, seed: int) -> Path:
    """One chapter in this process; the path of its page."""
    start, wall = time.process_time(), time.perf_counter()
    page: Page = importlib.import_module(f"examples.papers.{name}").chapter(out, small, seed)
    page.cost = (time.process_time() - start, time.perf_counter() - wall)
    return page.save()


def main() -> int:
    """Run the chapters asked for; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help=f"of {', '.join(CHAPTERS)}; default all")
    parser.add_argument("--small", action="store_true", help="settings of a quick check")
    parser.add_argument("--out", type=Path, default=Path("runs/papers"), help="folder of the pages and figures")
    parser.add_argument("--docs", action="store_true", help="write into docs/papers")
    parser.add_argument("--seed", type=int, default=0, help="of every random choice")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data that are not in the repository")
    given = parser.parse_args()
    unknown = sorted(set(given.chapters) - set(CHAPTERS))
    if unknown:
        parser.error(f"no chapter {', '.join(unknown)}; there are {', '.join(CHAPTERS)}")
    out = DOCS if given.docs else given.out
    chapters = given.chapters or list(CHAPTERS)
    os.environ["JAXLAND_DATA"] = str(given.data)
    if len(chapters) == 1:
        print(f"{chapters[0]}: {run(chapters[0], out, small=given.small, seed=given.seed)}", flush=True)
        return 0
    failed = 0
    for name in chapters:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", "examples.papers", name, "--out", str(out), "--seed", str(given.seed)]
        failed += subprocess.run(command + ["--small"] * given.small, check=False).returncode != 0
    if failed:
        print(f"{failed} of {len(chapters)} chapters failed", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
