"""The file that a run leaves behind now and then, to be gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxland.runs.files import is_writer, read_npz, write_npz
from jaxland.runs.stop import Stop


@dataclass
class Checkpoint:
    """Where, when and as what a run is kept.

    Attributes:
        path: npz file.
        kind: says what it holds.
        every: seconds between two writes.
        written: seconds of the run at the last one.
    """

    path: Path
    kind: str
    every: float
    written: float = 0.0

    def due(self, stop: Stop) -> bool:
        """Whether it is time to write; all processes of a run must ask together."""
        return stop.passed(self.written, self.every)

    def write(self, head: Mapping[str, Any], arrays: Mapping[str, Any], stop: Stop) -> None:
        """Keep JSON-able facts and arrays; one process of a run of several does.

        Raises:
            StoreError: the place cannot be written.
        """
        self.written = stop.seconds
        if is_writer():
            write_npz(self.path, self.kind, head, arrays)

    def read(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What was last written, also by 0.2.0.

        Raises:
            StoreError: missing, damaged, or of another kind.
        """
        return read_npz(self.path, self.kind, sealed=False)
