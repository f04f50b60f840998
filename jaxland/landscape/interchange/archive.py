"""Landscapes in files of our own: an npz for a finished one, and the store of a run read without its problem."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError, StoreError
from jaxland.landscape import schema
from jaxland.landscape.interchange.legacy import symmetry_of_0_2
from jaxland.landscape.result import Landscape
from jaxland.landscape.store import Store
from jaxland.problem.scale import Scale
from jaxland.problem.stored_symmetry import symmetry_from_json
from jaxland.problem.symmetry import NoSymmetry, Symmetry
from jaxland.runs import read_npz, write_npz

FORMAT = "jaxland-landscape-1"
STORE, ARCHIVE = "landscape.db", "landscape.npz"
LARGEST_ORDER = 10**300
_ARRAYS = tuple(f.name for f in fields(Landscape) if f.name not in ("problem", "settings", "statistics"))


def read(path: str | Path) -> Landscape:
    """The landscape of a run directory, of a store (``.db``), or of an archive (``.npz``); without its problem.

    Raises:
        DataError: there is none. StoreError: it is damaged or of another format.
    """
    return read_with_extras(path)[0]


def read_with_extras(path: str | Path) -> tuple[Landscape, dict[str, np.ndarray]]:
    """``read``, and the arrays an archive keeps beside the landscape (a store has none)."""
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in (STORE, ARCHIVE) if (path / name).exists()]
        if not found:
            raise DataError(
                f"{path} holds neither {STORE} (made by jaxland explore) nor {ARCHIVE} (by jaxland import)"
            )
        path = found[0]
    if not path.exists():
        raise DataError(f"{path} does not exist")
    return (load(path), load_extras(path)) if path.suffix == ".npz" else (read_store(path), {})


# -- npz -------------------------------------------------------------------------------------------------------------


def save(
    landscape: Landscape, path: str | Path, *, extras: Mapping[str, ArrayLike] | None = None, force: bool = False
) -> Path:
    """Write a landscape to one npz file, without pickle and without its problem.

    The file ends with a SHA-256 of all that stands before it (as the comment of the zip archive), so that no damage
    goes unseen; ``numpy.load`` reads the arrays all the same.

    Args:
        landscape: to write; of its problem only a description is kept.
        path: ends in ``.npz``.
        extras: more numeric arrays to keep beside it, read by ``load_extras``.
        force: replace the file.

    Raises:
        StoreError: the file exists or cannot be written. ArgumentError: the suffix is another.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ArgumentError(f"an archive must be called something.npz, got {path.name}")
    about = {"group_order": group_order(landscape), "problem": describe_problem(landscape)}
    if landscape.symmetry is not None:
        about["symmetry"] = landscape.symmetry.to_json()
    head = {"settings": {**landscape.settings, **about}, "statistics": landscape.statistics}
    plain = json.loads(json.dumps(head, sort_keys=True, default=_plain))
    arrays = {name: getattr(landscape, name) for name in _ARRAYS if getattr(landscape, name) is not None}
    arrays |= {f"extra_{name}": np.asarray(value) for name, value in (extras or {}).items()}
    return write_npz(path, FORMAT, plain, arrays, force=force)


def load(path: str | Path) -> Landscape:
    """Read what ``save`` wrote.

    Raises:
        DataError: no such file. StoreError: damaged, or not written by ``save``.
    """
    header, arrays = _members(Path(path))
    try:
        kept = {name: arrays[name] for name in _ARRAYS if name in arrays}
        found = Landscape(problem=None, settings=header["settings"], statistics=header["statistics"], **kept)
        return with_symmetry(found, found.settings.get("symmetry"), str(found.settings.get("problem", "")))
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged: it lacks {error}") from error


def load_extras(path: str | Path) -> dict[str, np.ndarray]:
    """The additional arrays kept by ``save``."""
    return {name[6:]: value for name, value in _members(Path(path))[1].items() if name.startswith("extra_")}


def _members(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.exists():
        raise DataError(f"{path} does not exist")
    return read_npz(path, FORMAT)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


# -- what a landscape says of its problem --------------------------------------------------------------------------


def with_symmetry(landscape: Landscape, symmetry: Mapping[str, Any] | None, words: str) -> Landscape:
    """A landscape from a file with its symmetry among its settings: as JSON, or from the words of a file of 0.2.0."""
    told = symmetry if symmetry is not None else symmetry_of_0_2(words, landscape.size)
    return landscape if told is None else replace(landscape, settings={**landscape.settings, "symmetry": dict(told)})


def describe_problem(landscape: Landscape) -> str:
    """A few words on whose landscape it is: of its problem, or what an earlier file kept."""
    if landscape.problem is None:
        return str(landscape.settings.get("problem", ""))
    return f"{landscape.size} parameters, symmetry: {landscape.problem.symmetry.describe()}"


def group_order(landscape: Landscape) -> int:
    """Order of the symmetry group: of the problem, or as kept by an earlier file.

    Where neither is known, the least number that all orbit sizes divide: thermodynamics and kinetics depend on
    orbit sizes up to a common factor only.
    """
    known = landscape.settings.get("group_order", 0)
    if landscape.problem is not None:
        known = landscape.problem.symmetry.order()
    if 1 <= known < LARGEST_ORDER:
        return int(known)
    sizes = {float(s) for s in (*landscape.orbit_sizes, *landscape.ts_orbit_sizes)}
    return common_order([int(s) for s in sizes]) if all(s >= 1 and s.is_integer() for s in sizes) else 1


def common_order(orders: Iterable[int]) -> int:
    """Least number that all these (positive) divide; 1 where that is beyond floating point."""
    order = 1
    for o in set(orders):
        order = math.lcm(order, o)
        if order >= LARGEST_ORDER:
            return 1
    return order


# -- the store of a run ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stub:
    """What a store asks of a problem when it is only read."""

    size: int
    symmetry: Symmetry = field(default_factory=NoSymmetry)
    dtype: type[np.float64] = np.float64


class _Reader(Store):
    """A store opened for reading: no lock is taken, nothing is written, the problem is not needed."""

    of_a_problem = False

    def __init__(self, path: Path) -> None:
        self._scratch: tempfile.TemporaryDirectory | None = None
        super().__init__(path, _Stub(0))  # type: ignore[arg-type]

    def _open(self) -> None:
        assert self.path is not None
        self._read(self.path)
        schema.version_of(self._db, self._name)
        self._check_seal()
        stored = self.get("fingerprint")
        if not isinstance(stored, dict) or not isinstance(stored.get("size"), int):
            raise StoreError(f"{self._name} is damaged: it does not say whose landscape it is")
        self.words = str(stored.get("symmetry"))
        self.symmetry = stored.get("group") or symmetry_of_0_2(self.words, stored["size"])
        told = NoSymmetry() if self.symmetry is None else symmetry_from_json(self.symmetry)
        self._settle(_Stub(stored["size"], told), Scale())  # type: ignore[arg-type]
        self.scale = self._stored_scale()
        self._load()

    def _read(self, path: Path) -> None:
        """Begin one read transaction; leaves no file behind where no run is at work or was killed."""
        if not _log_size(path):
            self._begin(path, "mode=ro&immutable=1")
            return
        try:
            self._begin(path, "mode=ro")
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
            # A write-ahead log in a folder that cannot be written to: SQLite reads a copy of both.
            self._scratch = tempfile.TemporaryDirectory(prefix="jaxland-")
            copy = Path(self._scratch.name) / path.name
            shutil.copy(path, copy)
            shutil.copy(_log(path), _log(copy))
            self._begin(copy, "mode=rw")

    def _begin(self, path: Path, mode: str) -> None:
        self._db = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)
        self._db.execute("BEGIN")
        self._db.execute("SELECT 1 FROM sqlite_master").fetchone()

    def close(self) -> None:
        super().close()
        if self._scratch is not None:
            self._scratch.cleanup()


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _log_size(path: Path) -> int:
    return _log(path).stat().st_size if _log(path).exists() else 0


def read_store(path: str | Path) -> Landscape:
    """The landscape in a run's store, without rebuilding the problem; also while the run goes on.

    Everything is read in one transaction, checksums are verified, and the file is left as it is.

    Returns:
        Landscape with ``problem=None``; ``settings`` also holds ``problem`` (words), ``symmetry`` (as JSON) and
        ``group_order``.

    Raises:
        DataError: no such file. StoreError: damaged or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"store {path} does not exist")
    try:
        for _ in range(20):
            before = path.stat()
            with closing(_Reader(path)) as reader:
                landscape, words, symmetry = reader.landscape(), reader.words, reader.symmetry
            after = path.stat()
            # A run that began meanwhile may have moved its log into the file.
            if _log_size(path) or (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
                break
        else:
            raise StoreError(f"store {path} keeps changing while it is read; wait for the other program")
    except StoreError:
        raise
    except (sqlite3.Error, OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"store {path} is damaged: {error}") from error
    settings = {**landscape.settings, "problem": f"{landscape.size} parameters, symmetry: {words}"}
    if symmetry is not None:
        settings["symmetry"] = symmetry
        if landscape.n_minima:
            settings["group_order"] = symmetry_from_json(symmetry).order()
    return replace(landscape, problem=None, settings=settings)
