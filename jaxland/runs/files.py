"""Files that are complete or not there, and the one format of arrays with facts: a sealed npz without pickle.

An npz here holds the member ``header``, JSON as bytes: ``{"kind", "head", "bfloat16"}``. The file ends with the
comment of its zip archive: the kind and the SHA-256 of all that stands before, so that no damage goes unseen;
``numpy.load`` reads the arrays all the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np

from jaxland.errors import StoreError


@runtime_checkable
class Table(Protocol):
    """What is asked of a DataFrame here."""

    def to_csv(self, *, index: bool) -> str:
        """As text."""


def is_writer() -> bool:
    """Whether this process writes the files of a run of several."""
    import jax

    return jax.process_index() == 0


# -- whole or not at all ---------------------------------------------------------------------------------------------


@contextmanager
def whole(path: str | Path) -> Iterator[IO[bytes]]:
    """A file to write (and read back) that takes its place under its name only when the block ends well.

    Raises:
        StoreError: the place cannot be written; the file that was there before is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    fresh = not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
        fresh = False
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            if fresh:
                path.parent.rmdir()


def write_whole(path: str | Path, data: bytes | str) -> Path:
    """Write a file, text as UTF-8, complete or not at all; returns its path.

    Raises:
        StoreError: the place cannot be written; the file that was there before is untouched.
    """
    with whole(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)
    return Path(path)


def write_table(path: str | Path, frame: Table, *, index: bool = True) -> Path:
    """Write a DataFrame as CSV, complete or not at all; returns its path.

    Raises:
        StoreError: the place cannot be written; the file that was there before is untouched.
    """
    return write_whole(path, frame.to_csv(index=index))


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
        if not force:
            refuse(folder, (*names, *stale))
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


# -- npz with a JSON header ------------------------------------------------------------------------------------------


def write_npz(
    path: str | Path, kind: str, head: Mapping[str, Any], arrays: Mapping[str, Any], *, force: bool = True
) -> Path:
    """Arrays and JSON-able facts in one file, complete or not there.

    Args:
        path: of the file.
        kind: says what it holds; ``read_npz`` asks for it.
        head: facts; NumPy numbers and arrays become plain ones.
        arrays: numeric, by name (not ``header``); bfloat16 is kept bit for bit.
        force: replace a file that is there.

    Raises:
        StoreError: there is one already, or the place cannot be written (what was there is untouched).
    """
    path = Path(path)
    if not force:
        refuse(path.parent, [path.name])
    with whole(path) as file:
        _put(file, kind, head, arrays)
    return path


def pack_npz(kind: str, head: Mapping[str, Any], arrays: Mapping[str, Any]) -> bytes:
    """What ``write_npz`` writes, as bytes; the same facts and arrays give the same bytes."""
    buffer = io.BytesIO()
    _put(buffer, kind, head, arrays)
    return buffer.getvalue()


def read_npz(path: str | Path, kind: str, *, sealed: bool = True) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays that ``write_npz`` wrote.

    Args:
        path: of the file.
        kind: what it must hold.
        sealed: False reads files without a seal too, as 0.2.0 wrote checkpoints, curvatures and models.

    Raises:
        StoreError: missing, damaged, or of another kind.
    """
    try:
        with Path(path).open("rb") as file:
            return _get(file, kind, str(path), sealed)
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist") from error
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be read: {error.strerror or error}") from error


def unpack_npz(data: bytes, kind: str, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Facts and arrays that ``pack_npz`` packed; ``name`` is what messages call them.

    Raises:
        StoreError: damaged, or of another kind.
    """
    return _get(io.BytesIO(data), kind, name, True)


def _put(file: IO[bytes], kind: str, head: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    plain = {name: np.asarray(a) for name, a in arrays.items()}
    short = [name for name, a in plain.items() if a.dtype.name == "bfloat16"]
    stored: dict[str, Any] = {name: a.view(np.uint16) if name in short else a for name, a in plain.items()}
    text = json.dumps({"kind": kind, "bfloat16": short, "head": head}, default=_plain).encode()
    np.savez(file, allow_pickle=False, header=np.frombuffer(text, np.uint8), **stored)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b" " * _seal_length(kind)
    seal = _seal(file, kind)
    file.seek(-len(seal), 2)
    file.write(seal)


def _get(file: IO[bytes], kind: str, name: str, sealed: bool) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    size = file.seek(0, 2)
    file.seek(max(size - _seal_length(kind), 0))
    last = file.read()
    has_seal = last.startswith(f"{kind} ".encode())
    if has_seal and last != _seal(file, kind):
        raise StoreError(f"{name} is damaged: its checksum does not fit")
    refusal = f"{name} is damaged, or no {_words(kind)} written by this jaxland ({kind})"
    if sealed and not has_seal:
        raise StoreError(refusal)
    try:
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            arrays = {i.filename.removesuffix(".npy"): _array(archive, i, size) for i in archive.infolist()}
        header = arrays.pop("header")
        facts = json.loads(str(header) if header.dtype.kind == "U" else header.tobytes())
        # 0.2.0 wrote curvatures, models and landscapes with a format beside the facts.
        found = facts.pop("format") if "format" in facts else facts["kind"]
        head, short = (facts["head"], facts["bfloat16"]) if "head" in facts else (facts, ())
        if short:
            import ml_dtypes

            arrays |= {n: arrays[n].view(ml_dtypes.bfloat16) for n in short}
    except Exception as error:  # whatever zipfile, json and NumPy say of bytes that are no such file
        raise StoreError(f"{refusal}: {error}") from error
    if found != kind:
        raise StoreError(f"{name} holds {found!r}, not {kind!r}")
    return head, arrays


def _words(kind: str) -> str:
    """``curvature`` of ``jaxland-curvature-1``."""
    return kind.removeprefix("jaxland-").rstrip("0123456789-")


def _seal_length(kind: str) -> int:
    return len(kind.encode()) + 1 + 64


def _seal(file: IO[bytes], kind: str) -> bytes:
    """The last bytes an undamaged file must have, from all that stand before them."""
    left = max(file.seek(0, 2) - _seal_length(kind), 0)
    file.seek(0)
    found = hashlib.sha256()
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        found.update(part)
        left -= len(part)
    return f"{kind} {found.hexdigest()}".encode()


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> np.ndarray:
    """One array; nothing larger than the file is ever allocated, whatever a header claims."""
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > limit:
        raise ValueError(f"{member.filename} is not stored as jaxland stores it")
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{member.filename} has an unknown version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in "fiubU" or math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename} is not a plain numeric array")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")
