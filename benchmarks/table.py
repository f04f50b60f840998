"""Tables from stored benchmark runs: written into the documentation by the run itself, or compared with another run.

python benchmarks/table.py write benchmarks/results/last.json docs/performance.md
python benchmarks/table.py compare benchmarks/results/last.json benchmarks/results/reference.json
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

SLOWER = 1.2


def short(seconds: float) -> str:
    """Seconds with a unit and three digits."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1 or unit == "us":
            value = seconds * scale
            return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    raise AssertionError


def cases(run: dict) -> list[dict]:
    """The measured cases of a run that carry a row of the table."""
    return [case["extra_info"] for case in run["benchmarks"] if "cpu" in case["extra_info"]]


def rows_of(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    line = "|" + "|".join("---" if k < 2 else "---:" for k in range(len(header))) + "|"
    return "\n".join(
        ["| " + " | ".join(r) + " |" for r in [header]] + [line] + ["| " + " | ".join(r) + " |" for r in rows]
    )


def operations(run: dict) -> str:
    """Own operations: CPU and wall seconds, floor, ratio, what limits, compilation."""
    rows = []
    for case in cases(run):
        if "peer_of" in case:
            continue
        floor = case.get("floor")
        rows.append(
            [
                case["name"],
                case["size"],
                short(case["cpu"]),
                short(case["wall"]),
                short(floor) if floor else "",
                f"{case['cpu'] / floor:.1f}" if floor else "",
                case.get("limit", ""),
                f"{case['compile']:.1f} s",
            ]
        )
    return rows_of(["operation", "size", "CPU", "wall", "floor", "CPU / floor", "floor is", "compile"], rows)


def peers(run: dict) -> str:
    """Peers beside the same operation of ours, same sizes, same run."""
    own = {(case["name"], case["size"]): case["cpu"] for case in cases(run) if "peer_of" not in case}
    rows = []
    for case in cases(run):
        ours = own.get((case.get("peer_of"), case["size"]))
        if ours is not None:
            times = f"{case['cpu'] / ours:.1f}"
            rows.append([case["peer_of"], case["size"], case["name"], short(case["cpu"]), short(ours), times])
    return rows_of(["operation", "size", "peer", "peer CPU", "jaxland CPU", "peer / jaxland"], rows)


def machine(run: dict) -> str:
    """Measured peaks, and versions."""
    rows = [[name, "", f"{value:.2f}"] for name, value in run.get("floors", {}).items()]
    versions = ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())
    return f"Versions: {versions}.\n\n" + rows_of(["one core, measured in the run", "", "value"], rows)


SECTIONS = {"operations": operations, "peers": peers, "machine": machine}


def fill(text: str, name: str, body: str) -> str:
    """``text`` with what stands between the markers of a section replaced.

    Raises:
        ValueError: the markers are not there.
    """
    begin, end = f"<!-- {name}: written by the run -->", f"<!-- /{name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no markers {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{body}\n{end}", text)


def write(run: dict, page: Path) -> None:
    """All sections of a page from one run."""
    text = page.read_text()
    for name, section in SECTIONS.items():
        text = fill(text, name, section(run))
    page.write_text(text)


def compare(run: dict, stored: dict) -> str:
    """CPU seconds of every case over the stored run's; a mark where more than 20 % slower."""
    old = {(case["name"], case["size"]): case["cpu"] for case in cases(stored)}
    lines = [f"{'case':48s} {'size':26s} {'stored':>10s} {'now':>10s} {'ratio':>6s}"]
    slower = 0
    for case in cases(run):
        before = old.pop((case["name"], case["size"]), None)
        label = f"{case['name']:48s} {case['size']:26s}"
        if before is None:
            lines.append(f"{label} {'-':>10s} {short(case['cpu']):>10s}    new")
            continue
        ratio = case["cpu"] / before
        slower += ratio > SLOWER
        mark = "  SLOWER" if ratio > SLOWER else ""
        lines.append(f"{label} {short(before):>10s} {short(case['cpu']):>10s} {ratio:6.2f}{mark}")
    lines += [f"{name:48s} {size:26s} not in this run" for name, size in old]
    for name in ("float64 peak, GFLOP/s", "bandwidth, GB/s"):
        if name in run.get("floors", {}) and name in stored.get("floors", {}):
            lines.append(f"the machine: {name} {stored['floors'][name]:.1f} stored, {run['floors'][name]:.1f} now")
    lines.append(f"{slower} of {len(cases(run))} cases more than {SLOWER - 1:.0%} slower")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["write", "compare"])
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path, help="page to write into, or stored run to compare with")
    args = parser.parse_args()
    run = json.loads(args.run.read_text())
    if args.action == "write":
        write(run, args.other)
    else:
        print(compare(run, json.loads(args.other.read_text())))


if __name__ == "__main__":
    main()
