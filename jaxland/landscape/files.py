"""Files that are written whole or not at all: a scratch folder beside them, fsync, rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxland.errors import StoreError


@contextmanager
def replacing(
    folder: str | Path, names: Sequence[str], *, force: bool = False, stale: Sequence[str] = ()
) -> Iterator[Path]:
    """A scratch folder to write files into; they are moved to ``folder``, in this order, when the block ends well.

    Args:
        folder: made where it does not exist.
        names: the files the block writes. Where they guard each other by checksums, the one that holds these comes
            first: a crash between two renames then leaves files that do not fit it.
        force: replace files of these names.
        stale: files of an earlier version that must not stay beside the new ones; removed with ``force``.

    Raises:
        StoreError: something is there already, the disk is full, or the folder cannot be written. What was there
            before is unchanged.
    """
    folder = Path(folder)
    fresh = not folder.exists()
    scratch: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = [name for name in (*names, *stale) if (folder / name).exists()]
        if there and not force:
            raise StoreError(
                f"{folder} already holds {', '.join(there)}: name another one, or overwrite with --force"
            )
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
        yield scratch
        for name in names:
            _sync(scratch / name)
        for k, name in enumerate(names):
            os.replace(scratch / name, folder / name)
            if k == 0:
                for old in stale:
                    (folder / old).unlink(missing_ok=True)
        _sync(folder)
        fresh = False
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        if fresh:
            with suppress(OSError):
                folder.rmdir()


def refuse(folder: Path, names: Sequence[str]) -> None:
    """Raise ``StoreError`` if files of these names are there."""
    there = [name for name in names if (folder / name).exists()]
    if there:
        raise StoreError(f"{folder} already holds {', '.join(there)}: name another one, or overwrite with --force")


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
