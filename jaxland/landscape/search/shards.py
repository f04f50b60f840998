"""Batches and what they found as bytes: sealed, without pickle, the same on every machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from jaxland.errors import StoreError
from jaxland.landscape.search.jobs import QUENCHES, Batch, Coordinates, Find, Finds
from jaxland.landscape.search.kinks import Kinks
from jaxland.landscape.search.stationary import Point, TransitionState
from jaxland.runs import pack_npz, unpack_npz

_KIND = "jaxland-shard-2"


def pack_batch(batch: Batch, coordinates: Coordinates) -> bytes:
    """A batch with the coordinates of the minima it names: all a worker needs besides the problem."""
    minima = batch.minima()
    points = np.array([coordinates[i] for i in minima], np.float64) if minima else np.zeros((0, 0))
    arrays = {"minima": np.array(minima, np.int64), "points": points}
    return pack_npz(_KIND, {"kind": batch.kind, "jobs": batch.jobs}, arrays)


def unpack_batch(data: bytes, name: str = "the batch") -> tuple[Batch, dict[int, np.ndarray]]:
    """See ``pack_batch``."""
    header, arrays = unpack_npz(data, _KIND, name)
    coordinates = {int(i): x for i, x in zip(arrays["minima"], arrays["points"])}
    return Batch(header["kind"], header["jobs"]), coordinates


def pack_finds(batch: Batch, finds: Finds) -> bytes:
    """What a batch found."""
    flat = [find for several in finds.lists for find in several]
    points = [p for find in flat for p in ([find] if isinstance(find, Point) else [find.saddle, *find.ends])]
    arrays = {
        "counts": np.array([len(several) for several in finds.lists], np.int64),
        "x": np.array([p.x for p in points], np.float64),
        "mode": np.array([p.mode for p in points], np.float64),
        "numbers": np.array([[p.energy, p.rms, p.lowest, p.log_product] for p in points], np.float64),
        "indices": np.array([[p.negative, p.flat] for p in points], np.int64),
    }
    header = {"kind": batch.kind, "jobs": batch.jobs, "work": finds.work, "kinks": finds.kinks.to_json()}
    return pack_npz(_KIND, header, arrays)


def unpack_finds(data: bytes, batch: Batch, name: str = "the shard") -> Finds:
    """See ``pack_finds``.

    Raises:
        StoreError: damaged, or of another batch.
    """
    header, arrays = unpack_npz(data, _KIND, name)
    if [header["kind"], header["jobs"]] != [batch.kind, json.loads(json.dumps(batch.jobs))]:
        raise StoreError(f"{name} belongs to other jobs")
    points = [
        Point(
            x=x,
            energy=float(n[0]),
            rms=float(n[1]),
            negative=int(i[0]),
            flat=int(i[1]),
            lowest=float(n[2]),
            log_product=float(n[3]),
            mode=mode,
        )
        for x, mode, n, i in zip(arrays["x"], arrays["mode"], arrays["numbers"], arrays["indices"])
    ]
    finds: Sequence[Find] = points
    if batch.kind not in QUENCHES:
        finds = [TransitionState(points[k], (points[k + 1], points[k + 2])) for k in range(0, len(points), 3)]
    rest = iter(finds)
    lists = [[next(rest) for _ in range(int(count))] for count in arrays["counts"]]
    return Finds(lists, int(header["work"]), Kinks.of_json(header.get("kinks")))
