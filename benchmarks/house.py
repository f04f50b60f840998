"""How the house stands: modules, long modules and functions, positional records, `Any`; `--list` names each.

    python benchmarks/house.py [SOURCE ...]      # folders that hold a package jaxland; default: this checkout

A record is a class of the package that is a NamedTuple or a dataclass; built by position means six or more positional
values in one call. `Any` is counted per annotation of a function's parameters and result.
"""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

LINES, BODY, VALUES = 400, 60, 6


def records(trees: dict[Path, ast.Module]) -> set[str]:
    """Names of the package's NamedTuples and dataclasses, and of the classes that inherit from one."""
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found: set[str] = set()
    while True:
        more = {
            c.name
            for c in classes
            if any(ast.unparse(base).split("[")[0].split(".")[-1] in {"NamedTuple", *found} for base in c.bases)
            or any("dataclass" in ast.unparse(d) for d in c.decorator_list)
        }
        if more <= found:
            return found
        found |= more


def survey(root: Path) -> dict[str, list[str]]:
    """Where each of the counted things is, as `path:line name`."""
    package = root / "jaxland"
    trees = {path: ast.parse(path.read_text()) for path in sorted(package.rglob("*.py"))}
    names = records(trees)
    table: dict[str, list[str]] = {
        "modules": [str(path.relative_to(root)) for path in trees],
        f"modules over {LINES} lines": [],
        f"functions over {BODY} lines": [],
        f"records built from {VALUES} or more positional values": [],
        "`Any` in signatures": [],
    }
    _, long_modules, long_functions, positional, anything = table.values()
    for path, tree in trees.items():
        place = path.relative_to(root)
        length = len(path.read_text().splitlines())
        if length > LINES:
            long_modules.append(f"{place} {length}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                if size > BODY:
                    long_functions.append(f"{place}:{node.lineno} {node.name} {size}")
                everything = node.args
                marks = [a.annotation for a in (*everything.posonlyargs, *everything.args, *everything.kwonlyargs)]
                marks += [a.annotation for a in (everything.vararg, everything.kwarg) if a] + [node.returns]
                for mark in marks:
                    if mark is not None and any(isinstance(n, ast.Name) and n.id == "Any" for n in ast.walk(mark)):
                        anything.append(f"{place}:{mark.lineno} {node.name}")
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func).split(".")[-1]
                given = [a for a in node.args if not isinstance(a, ast.Starred)]
                if called in names and len(given) >= VALUES:
                    positional.append(f"{place}:{node.lineno} {called} {len(given)}")
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", type=Path, default=[Path(__file__).parents[1]])
    parser.add_argument("--list", action="store_true", help="name each place of the last source")
    given = parser.parse_args()
    tables = [survey(root) for root in given.sources]
    print("| | " + " | ".join(str(root) for root in given.sources) + " |")
    print("|---|" + "---|" * len(tables))
    for row in tables[0]:
        print(f"| {row} | " + " | ".join(str(len(table[row])) for table in tables) + " |")
    if given.list:
        for row, places in list(tables[-1].items())[1:]:
            print(f"\n{row}:", *places, sep="\n    ")


if __name__ == "__main__":
    main()
