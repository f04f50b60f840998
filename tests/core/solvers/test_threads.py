"""BLAS keeps to one thread while lanes run, and is given back whatever happens."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from jaxland.core.solvers import batches, lanes, quench
from jaxland.core.solvers.protocol import Layout
from jaxland.core.solvers.threads import one_blas_thread
from jaxland.problem.problem import Problem


def blas():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def three_threads():
    with one_blas_thread():
        pass  # loads what there is
    with threadpool_limits(3, user_api="blas"):
        yield


def test_scopes_nest_overlap_and_end_in_errors():
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        with one_blas_thread():
            assert set(blas()) == {1}
        assert set(blas()) == {1}
        raise ZeroDivisionError
    assert set(blas()) == {3}
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        inside.wait(30)
    assert set(blas()) == {1}  # the other one is still in
    leave.set()
    thread.join()
    assert set(blas()) == {3}


def test_lanes_and_rows_hold_blas_back_and_give_it_back(x64):
    problem = Problem.from_energy(lambda w: jnp.sum((w - 1) ** 2), 3)
    items = [quench.Start(x, np.float64(1.0)) for x in np.eye(3)]
    running = lanes.stream(quench.BFGS(1e-8), problem.kernel.first, items, None, layout=Layout(2, 16, 1, 1))
    next(running)
    assert set(blas()) == {1}
    running.close()  # left early
    assert set(blas()) == {3}

    def broken(row, data):
        assert set(blas()) == {1}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        batches.map_rows(broken, [np.zeros(2)], None)
    with pytest.raises(ZeroDivisionError):
        lanes.run(quench.BFGS(1e-8), broken, items, None)
    assert set(blas()) == {3}
