"""``jaxland.sha256``: checksums of the files of a PATHSAMPLE database, and a few facts on whose it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxland.errors import StoreError
from jaxland.landscape.interchange.pathsample.tables import FILES

SEAL = "jaxland.sha256"
_TITLE = "# jaxland PATHSAMPLE database 1"


def seal(folder: Path, names: Sequence[str], facts: Mapping[str, Any]) -> str:
    """Text of the seal of files in a folder, with JSON-able facts."""
    listed = [f"{_digest(folder / name)}  {name}" for name in names]
    return _sealed([_TITLE, f"# {json.dumps(facts, sort_keys=True)}", *listed])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sealed(lines: Sequence[str]) -> str:
    body = "".join(f"{line}\n" for line in lines)
    return f"{body}# {hashlib.sha256(body.encode()).hexdigest()}\n"


def verify(folder: Path) -> dict[str, Any]:
    """Check the files against ``jaxland.sha256``, where there is one; returns the facts it tells.

    Raises:
        StoreError: the seal is damaged, or a file is missing or does not fit it.
    """
    path = folder / SEAL
    if not path.exists():
        return {}
    if path.stat().st_size > 1 << 20:
        raise StoreError(f"{path} is damaged: it is too long")
    text = path.read_bytes().decode("ascii", errors="replace")
    lines = text.split("\n")[:-2]
    if len(lines) < 2 or lines[0] != _TITLE or text != _sealed(lines):
        raise StoreError(f"{path} is damaged; remove it to read the other files unchecked")
    for line in lines[2:]:
        digest, _, name = line.partition("  ")
        if name not in FILES or not (folder / name).is_file():
            raise StoreError(f"{folder / name} is missing: {path.name} lists it")
        if _digest(folder / name) != digest:
            raise StoreError(
                f"{folder / name} does not fit {path.name}: it is damaged, or another program has changed it since; "
                f"where that is meant, remove {path.name}"
            )
    return dict(json.loads(lines[1][2:]))
