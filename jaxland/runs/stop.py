"""One way to end early: a time limit, Ctrl-C, or the caller's own question, seen at the next safe place."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def _most(code: int) -> int:
    """Largest code over the processes of a run."""
    import jax

    if jax.process_count() == 1:
        return code
    import numpy as np
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(code))))


class Stop:
    """Whether a run should end at its next safe place, and why ("interrupted", "time limit").

    ``reason`` is agreed among the processes of a run, which must ask together. Calling it asks this process alone:
    what a loop that takes ``should_stop`` is given.

    Args:
        time_limit: seconds from now; None: for ever.
        should_stop: the caller's own question; its yes counts as an interrupt.
    """

    def __init__(self, time_limit: float | None = None, should_stop: Callable[[], bool] | None = None) -> None:
        self.began = time.monotonic()
        self._limit, self._asked, self._interrupted = time_limit, should_stop, False

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began

    def _code(self) -> int:
        if self._interrupted or (self._asked is not None and self._asked()):
            return 2
        return int(self._limit is not None and self.seconds >= self._limit)

    def __call__(self) -> bool:
        """Whether this process should stop."""
        return self._code() > 0

    @property
    def reason(self) -> str | None:
        """None while the run should go on; the same in all processes of a run, which must ask together."""
        return (None, "time limit", "interrupted")[_most(self._code())]

    def passed(self, mark: float, seconds: float) -> bool:
        """Whether so many seconds have passed since ``mark``; the same in all processes, which must ask together."""
        return bool(_most(int(self.seconds - mark > seconds)))

    def interrupt(self, signum: int | None = None, frame: FrameType | None = None) -> None:
        """Ask for a stop; the second time raises KeyboardInterrupt at once."""
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True


@contextmanager
def stoppable(time_limit: float | None = None, should_stop: Callable[[], bool] | None = None) -> Iterator[Stop]:
    """Turns the first Ctrl-C (in the main thread) into a request that the run sees between its steps."""
    stop = Stop(time_limit, should_stop)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, stop.interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
