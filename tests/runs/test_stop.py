"""Time limit, Ctrl-C and the caller's own question."""

import os
import signal
import threading

import pytest

from jaxland import Problem
from jaxland.landscape import explore
from jaxland.problem.potentials import mueller_brown
from jaxland.runs import Stop, stoppable


def test_a_time_limit_and_a_question_stop():
    assert Stop().reason is None and not Stop()()
    assert Stop(0.0).reason == "time limit" and Stop(0.0)()
    assert Stop(None, lambda: True).reason == "interrupted"
    asked = iter([False, True])
    stop = Stop(1e6, lambda: next(asked))
    assert not stop() and stop()
    assert stop.passed(-1.0, 0.5) and not stop.passed(stop.seconds, 60.0)


def test_the_first_ctrl_c_asks_and_the_second_kills():
    before = signal.getsignal(signal.SIGINT)
    with stoppable() as stop:
        assert stop.reason is None
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reason == "interrupted" and stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_are_stopped_by_time_and_question_only():
    found = []

    def run():
        with stoppable(0.0) as stop:
            found.append(stop.reason)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == ["time limit"]


def test_ctrl_c_pauses_a_search_of_the_api(x64, tmp_path):
    path, options = tmp_path / "landscape.db", {"starts": 6, "climbs": 6, "hops": 0, "rounds": 1, "minima": None}
    seen = []

    def interrupt(progress):
        seen.append(progress)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    problem, box = mueller_brown(), ((-1.6, -0.4), (1.2, 2.0))
    assert isinstance(problem, Problem)
    short = explore(problem, store=path, box=box, progress=interrupt, **options)
    done = explore(problem, store=path, box=box, **options)
    whole = explore(problem, box=box, **options)
    assert len(seen) == 1 and short.n_ts == 0
    assert done.energies.tolist() == whole.energies.tolist() and done.ts_ends.tolist() == whole.ts_ends.tolist()
