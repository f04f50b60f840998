"""What must survive a kill: stopping between steps, files written whole or not at all, checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import StoreError


def _most(code: int) -> int:
    """Largest code over the processes of a run."""
    if jax.process_count() == 1:
        return code
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(code))))


class Stop:
    """Whether a run should end at its next safe place, and why ("interrupted", "time limit")."""

    def __init__(self, time_limit: float | None = None) -> None:
        self.began = time.monotonic()
        self._limit, self._interrupted = time_limit, False

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began

    @property
    def reason(self) -> str | None:
        """None while the run should go on; the same in all processes of a run, which must ask together."""
        late = self._limit is not None and self.seconds >= self._limit
        return (None, "time limit", "interrupted")[_most(2 if self._interrupted else int(late))]

    def passed(self, mark: float, seconds: float) -> bool:
        """Whether so many seconds have passed since ``mark``; the same in all processes, which must ask together."""
        return bool(_most(int(self.seconds - mark > seconds)))

    def interrupt(self, *_: Any) -> None:
        """Ask for a stop; the second time raises KeyboardInterrupt at once."""
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True


@contextmanager
def stoppable(time_limit: float | None = None) -> Iterator[Stop]:
    """Turns the first Ctrl-C (in the main thread) into a request that the run sees between its steps."""
    stop = Stop(time_limit)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, stop.interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def write_checkpoint(path: str | Path, kind: str, head: dict[str, Any], arrays: dict[str, Any]) -> Path:
    """Arrays and JSON-able facts in one npz without pickle, complete or not there: temporary file, fsync, rename.

    Raises:
        StoreError: the place cannot be written (the file that was there before is untouched).
    """
    path = Path(path)
    temporary = path.with_name(path.name + f".{os.getpid()}.part")
    plain = {name: np.asarray(a) for name, a in arrays.items()}
    short = [name for name, a in plain.items() if a.dtype == jnp.bfloat16]
    stored: dict[str, Any] = {name: a.view(np.uint16) if name in short else a for name, a in plain.items()}
    text = json.dumps({"kind": kind, "bfloat16": short, "head": head})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, header=np.array(text), **stored)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"{path} cannot be written ({error.strerror or error}); the run goes on from memory"
        ) from error
    return path


def read_checkpoint(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays that ``write_checkpoint`` wrote.

    Raises:
        StoreError: missing, damaged, or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            arrays = {name: archive[name] for name in archive.files if name != "header"}
        found, short, head = header["kind"], header["bfloat16"], header["head"]
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist") from error
    except Exception as error:
        raise StoreError(
            f"{path} is damaged or was not written by jaxland ({error}); remove it to start anew"
        ) from error
    if found != kind:
        raise StoreError(f"{path} holds {found!r}, not {kind!r}")
    return head, {n: a.view(jnp.bfloat16) if n in short else a for n, a in arrays.items()}


def is_writer() -> bool:
    """Whether this process writes the files of a run of several."""
    return jax.process_index() == 0


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
