"""What a solver is, how it ends, and how lanes are laid out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Int, PyTree

from jaxland.core.solvers import threads

Evaluate = Callable[[PyTree, PyTree], PyTree]
# On an accelerator: numbers that all lanes may hold in one array; parameters up to which it holds matrices;
# vectors that a lane holds beyond.
_NUMBERS, _DENSE, _VECTORS = 2**29, 1500, 40


class Status(IntEnum):
    """How a lane ended."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    NONFINITE = 3
    STALLED = 4
    WRONG_INDEX = 5
    DEGENERATE = 6


@runtime_checkable
class Solver(Protocol):
    """One lane of an iterative method; hashable, since it is static under jit."""

    def init(self, item: PyTree) -> PyTree:
        """State at the start of a job."""

    def point(self, state: PyTree) -> PyTree:
        """Where the driver evaluates next."""

    def step(self, state: PyTree, evaluation: PyTree) -> PyTree:
        """State after one evaluation."""

    def status(self, state: PyTree) -> Int[Array, ""]:
        """``Status`` of the lane."""

    def result(self, state: PyTree) -> PyTree:
        """What is handed out when the lane ends."""


class Outcome(NamedTuple):
    """A finished job: its place among the items, how it ended, its result (host arrays)."""

    job: int
    status: Status
    result: PyTree


@dataclass(frozen=True)
class Layout:
    """How lanes are laid out; the default suits the device.

    Attributes:
        lanes: lanes per thread (CPU) or in all (accelerator).
        passes: evaluations per lane between two visits to the host at most; fewer where they take long.
        together: lanes evaluated in one batch; 1 maps over lanes, None takes all of them.
        threads: host threads, each with its own lanes (a CPU device runs them on different cores).
    """

    lanes: int = 32
    passes: int = 64
    together: int | None = 1
    threads: int = 1

    @classmethod
    def default(cls, n_items: int | None = None, size: int | None = None) -> Layout:
        """Layout for the default backend, a number of jobs and of parameters, where known.

        On a CPU as many lanes as fill a tenth of a second where jobs take milliseconds; a few where a state holds
        large matrices. On an accelerator thousands, as far as a matrix of each (beyond 1,500 parameters tens of
        vectors) fits 4 GB.
        """
        if not threads.on_accelerator():
            cores = min(os.cpu_count() or 1, 16)
            most = 8 if size is None else int(np.clip(2**19 // size**2, 2, 32))
            lanes = most if n_items is None else int(np.clip(-(-n_items // cores), 1, most))
            return cls(lanes=1 << (lanes - 1).bit_length(), passes=4096, together=1, threads=cores)
        each = 1 if size is None else size**2 if size <= _DENSE else _VECTORS * size
        most = 1 << int(np.clip(_NUMBERS // each, 16, 4096)).bit_length() - 1
        lanes = most if n_items is None else int(np.clip(n_items, 16, most))
        return cls(lanes=1 << (lanes - 1).bit_length(), passes=32, together=None, threads=1)

    def slots(self, devices: int = 1) -> int:
        """States held: for the lanes, but two batches a device at least, all of them full.

        A loop over one batch is compiled away and its rounding with it: one lane would not take the program of many.
        """
        if self.together is None:
            return max(1, self.lanes // devices) * devices
        batches = max(2, -(-self.lanes // (devices * self.together)))
        return batches * self.together * devices
