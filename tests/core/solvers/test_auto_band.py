"""AutoNEB: known saddle, redistribution, insertion, networks, devices, resume."""

import os
import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from shared_cases import on_devices

from jaxland import Problem, mlp
from jaxland.core.solvers import auto_band
from jaxland.errors import ArgumentError, ConvergenceError, DataError, StoreError
from jaxland.paths import Cycle, PathSettings, cycles, load_path, minimum_energy_path
from jaxland.paths.ensemble import PathEnsemble, connect_minima
from jaxland.paths.profile import Recomputed
from jaxland.problem.sharded import shard_data


def mueller_brown(w):
    x, y = w
    a, b = jnp.array([-1, -1, -6.5, 0.7]), jnp.array([0, 0, 11, 0.6])
    c, height = jnp.array([-10, -10, -6.5, 0.7]), jnp.array([-200.0, -100, -170, 15])
    dx, dy = x - jnp.array([1, 0, -0.5, -1]), y - jnp.array([0, 0.5, 1.5, 1])
    return jnp.sum(height * jnp.exp(a * dx**2 + b * dx * dy + c * dy**2))


MINIMA = np.array([[-0.558224, 1.441726], [0.623499, 0.028038]])


@pytest.fixture(scope="module")
def toy():
    """Two trained networks (float64) on one two-class problem: parameters, problem, test data."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(240, 2))
        y = (x[:, 0] * x[:, 1] > 0).astype(int)
        problem = Problem.from_model(mlp((2, 6, 2)), x[:160], y[:160], l2=1e-4)
        rule = optax.adam(2e-2)

        @jax.jit
        def train(w, data):
            def body(_, carry):
                w, state = carry
                update, state = rule.update(jax.grad(problem.energy_of)(w, data), state)
                return w + update, state

            return jax.lax.fori_loop(0, 1500, body, (w, rule.init(w)))[0]

        ends = [train(problem.ravel(problem.model.init(jax.random.key(k))), problem.data) for k in (1, 2, 3)]
        return problem, [np.asarray(w) for w in ends], (x[160:], y[160:])


SHORT = PathSettings(
    images=5, max_images=9, cycles=(Cycle(60, 2e-2), Cycle(60, 5e-3), Cycle(60, 1e-3, True)), batch=40, block=20
)


def test_saddle_of_mueller_brown(x64):
    problem = Problem.from_energy(mueller_brown, 2)
    schedule = (Cycle(200, 1e-4), Cycle(200, 1e-4), Cycle(600, 1e-4, True))
    found = minimum_energy_path(problem, *MINIMA, PathSettings(optimiser="sgd", cycles=schedule, max_images=20))
    assert found.status == "finished"
    assert abs(found.profile.energy.max() + 40.664844) < 1e-5
    np.testing.assert_allclose(found.saddle, [-0.822002, 0.624313], atol=1e-5)
    np.testing.assert_array_equal(found.images[[0, -1]], MINIMA)
    assert found.gradients == sum(row.steps * (row.images - 2) for row in found.history.itertuples(index=False))


def test_redistribution_is_even_and_keeps_ends_and_anchor(x64):
    rng = np.random.default_rng(0)
    images = np.cumsum(rng.random((7, 1)) + 0.1, axis=0) * np.ones((1, 5))  # uneven on a straight line
    padded = jnp.asarray(auto_band.pad(images, 8))
    out = np.asarray(jax.jit(auto_band.redistribute)(padded, 7, -1))
    np.testing.assert_allclose(np.diff(out[:7], axis=0), np.diff(out[:7], axis=0)[0:1].repeat(6, 0), atol=1e-13)
    np.testing.assert_array_equal(out[[0, 6, 7]], images[[0, 6, 6]])
    out = np.asarray(jax.jit(auto_band.redistribute)(padded, 7, 2))
    np.testing.assert_array_equal(out[2], images[2])
    for part in (np.diff(out[:3], axis=0), np.diff(out[2:7], axis=0)):
        np.testing.assert_allclose(part, part[:1].repeat(len(part), 0), atol=1e-13)


def test_images_that_coincide_do_not_make_nan(x64):
    images = jnp.zeros((4, 3)).at[3].set(1.0)
    out = auto_band.redistribute(images, jnp.asarray(4), jnp.asarray(-1))
    np.testing.assert_allclose(out[:, 0], [0, 1 / 3, 2 / 3, 1], atol=1e-14)
    force = auto_band.across(images, jnp.zeros(4), jnp.ones((4, 3)), jnp.asarray(4), jnp.asarray(-1))
    assert np.isfinite(np.asarray(force)).all()


def test_force_is_across_the_path_and_reversed_along_it_where_it_climbs(x64):
    images = jnp.asarray([[0.0, 0], [1, 0], [2, 0]])
    force = auto_band.across(images, jnp.zeros(3), jnp.asarray([[1.0, 1]] * 3), jnp.asarray(3), jnp.asarray(1))
    np.testing.assert_allclose(force, [[0, 0], [-1, 1], [0, 0]])


def test_insertion_at_hidden_rises_largest_first():
    line = np.linspace(0, 1, 31)
    energies = line.copy()
    energies[4], energies[17] = 1.5, 2.0  # segments of ten points each
    rise, _ = auto_band.hidden_rises(energies, 9)
    np.testing.assert_allclose(rise, [1.5 - line[4], 2.0 - line[17], 0], atol=1e-12)
    assert auto_band.insertions(energies, 9, 0.2, 5) == [(1, 0.7), (0, 0.4)]
    assert auto_band.insertions(energies, 9, 0.2, 1) == [(1, 0.7)]
    assert auto_band.insertions(line, 9, 0.2, 5) == []
    images = np.arange(4.0)[:, None]
    np.testing.assert_allclose(
        auto_band.insert(images, [(1, 0.7), (0, 0.4)])[:, 0], [0, 0.4, 1, 1.7, 2, 3], atol=1e-12
    )


@pytest.mark.parametrize("devices", [1, 3, 4])
def test_every_image_is_evaluated_once_wherever_it_lies(devices):
    for count in range(3, 30):
        rows = auto_band.capacity(count, devices)
        assert rows >= count and rows % devices == 0
        image, row = auto_band._places(rows, jnp.asarray(count), devices)
        np.testing.assert_array_equal(np.asarray(image)[np.asarray(row)[:count]], np.arange(count))
        per_device = np.asarray(row)[:count] // (rows // devices)
        assert np.bincount(per_device).max() == -(-count // devices)


def test_path_of_a_network_is_lower_than_the_straight_line(x64, toy):
    problem, ends, test = toy
    found = minimum_energy_path(problem, ends[0], ends[1], SHORT, test=test)
    assert found.profile.barrier() < 0.5 * found.straight.barrier()
    assert found.profile.barrier("test_loss") < found.straight.barrier("test_loss")
    np.testing.assert_array_equal(found.images[0], ends[0])
    np.testing.assert_array_equal(found.images[-1], problem.symmetry.align(ends[1], ends[0]))
    assert list(found.barriers().measure) == ["energy", "loss", "error", "test_loss", "test_error"]
    energies = [float(problem.energy(w)) for w in found.images]
    np.testing.assert_allclose(found.profile.energy[found.profile.image], energies, rtol=1e-12)
    np.testing.assert_allclose(float(problem.energy(found.saddle)), found.profile.energy.max(), rtol=1e-12)


def test_a_path_given_is_where_it_starts(x64):
    bent = np.array([MINIMA[0], [-0.8, 0.6], [0.2, 0.4], MINIMA[1]])
    settings = PathSettings(optimiser="sgd", cycles=(Cycle(1, 1e-9),))
    found = minimum_energy_path(Problem.from_energy(mueller_brown, 2), *MINIMA, settings, path=bent)
    np.testing.assert_array_equal(found.images[[0, -1]], MINIMA)
    length = np.linalg.norm(np.diff(bent, axis=0), axis=1).sum()
    assert abs(found.profile.length - length) < 0.1 * length


def test_report_names_the_barriers_and_warns_of_a_run_cut_short(x64, toy, tmp_path):
    from jaxland.hessian.modes import extreme_modes
    from jaxland.report.paths import path_figure, path_report, saturation_figure

    problem, ends, test = toy
    found = minimum_energy_path(problem, ends[0], ends[1], SHORT, test=test, time_limit=0.0)
    modes = extreme_modes(problem, found.saddle, lowest=2, highest=2, basis=16)
    text = path_report(found, tmp_path / "path.html", modes=modes).read_text()
    for part in ("test_error", "ended early", "rms gradient", f"{problem.size} parameters"):
        assert part in text
    assert len(path_figure(found).axes) == 2
    bare = minimum_energy_path(
        Problem.from_energy(mueller_brown, 2), *MINIMA, PathSettings(optimiser="sgd", cycles=(Cycle(5, 1e-4),))
    )
    assert len(path_figure(bare).axes) == 1 and bare.profile.loss is None
    table = pd.DataFrame({"path": [1, 2, 3], "top": [np.inf, 2, 1.0], "mean": [np.inf, 1.5, 1.0]})
    ensemble = PathEnsemble(np.zeros((3, 2), int), np.ones(3), np.zeros(2), np.ones((2, 2)), table, True, [])
    assert len(saturation_figure(ensemble).axes[0].lines[0].get_xdata()) == 2


def test_images_stay_evenly_spaced(x64, toy):
    problem, ends, _ = toy
    found = minimum_energy_path(problem, ends[0], ends[1], replace(SHORT, cycles=SHORT.cycles[:2]))
    gaps = np.linalg.norm(np.diff(found.images, axis=0), axis=1)
    assert np.ptp(gaps) < 0.02 * gaps.mean()


def test_result_file_round_trip(x64, toy, tmp_path):
    problem, ends, test = toy
    one = PathSettings(cycles=(Cycle(2, 1e-3),))
    found = minimum_energy_path(problem, ends[0], ends[1], one, test=test)
    back = load_path(found.save(tmp_path / "path.npz"))
    np.testing.assert_array_equal(back.images, found.images)
    assert back.to_pandas().equals(found.to_pandas()) and back.barriers().equals(found.barriers())
    assert back.history.equals(found.history) and back.settings == found.settings
    assert "finished" in back._repr_html_()


@pytest.mark.parametrize("kind", ["time limit", "interrupted"])
def test_a_stopped_run_goes_on_bit_for_bit(x64, toy, tmp_path, kind):
    problem, ends, _ = toy
    whole = minimum_energy_path(problem, ends[0], ends[1], SHORT)
    place, seen = tmp_path / "run" / "path.npz", []

    def interrupt(progress):
        seen.append(progress.step)
        if kind == "interrupted" and len(seen) in (2, 6):
            os.kill(os.getpid(), signal.SIGINT)

    stopped = 0
    for _ in range(40):
        limit = 1e-6 if kind == "time limit" and not seen else None
        found = minimum_energy_path(
            problem, ends[0], ends[1], SHORT, checkpoint=place, time_limit=limit, progress=interrupt
        )
        if found.status == "finished":
            break
        assert found.status == kind
        assert np.isfinite(found.profile.energy).all()
        stopped += 1
        seen.append(-1)
    assert stopped >= 1
    np.testing.assert_array_equal(found.images, whole.images)
    assert found.steps == whole.steps
    again = minimum_energy_path(problem, ends[0], ends[1], SHORT, checkpoint=place)
    np.testing.assert_array_equal(again.images, whole.images)


def test_a_checkpoint_of_another_run_or_damaged_is_refused(x64, toy, tmp_path):
    problem, ends, _ = toy
    one, place = PathSettings(cycles=(Cycle(2, 1e-3),)), tmp_path / "path.npz"
    minimum_energy_path(problem, ends[0], ends[1], one, checkpoint=place)
    with pytest.raises(StoreError, match="ends"):
        minimum_energy_path(problem, ends[0], ends[2], one, checkpoint=place)
    with pytest.raises(StoreError, match="settings"):
        minimum_energy_path(problem, ends[0], ends[1], PathSettings(cycles=(Cycle(3, 1e-3),)), checkpoint=place)
    place.write_bytes(place.read_bytes()[:200])
    with pytest.raises(StoreError, match="damaged"):
        minimum_energy_path(problem, ends[0], ends[1], one, checkpoint=place)


def test_own_batches_equal_drawn_ones_and_groups_change_nothing(x64, toy):
    problem, ends, _ = toy
    few = PathSettings(cycles=(Cycle(25, 1e-2),), batch=40, block=7, together=3)
    x, y = map(np.asarray, problem.data)

    def batches(step):
        epoch, at = divmod(step, 4)
        rows = np.random.default_rng([0, epoch]).permutation(160)[at * 40 : (at + 1) * 40]
        return x[rows], y[rows]

    drawn = minimum_energy_path(problem, ends[0], ends[1], few)
    given = minimum_energy_path(
        problem, ends[0], ends[1], PathSettings(cycles=few.cycles, together=1), batches=batches
    )
    np.testing.assert_allclose(given.images, drawn.images, atol=1e-9)


def test_batch_statistics_are_recomputed(x64):
    """A network with batch normalisation trained on batch statistics, evaluated with those of the whole data."""
    from jaxland import from_function

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 3)), rng.integers(0, 2, 64)

    def hidden(p, x):
        return x @ p["a"]

    def normalised(p, h, mean, var):
        return jnp.tanh((h - mean) / jnp.sqrt(var + 1e-5) * p["scale"]) @ p["b"]

    def training(p, x):
        h = hidden(p, x)
        return normalised(p, h, h.mean(0), h.var(0))

    def statistics(p):
        h = hidden(p, jnp.asarray(x))
        return h.mean(0), h.var(0)

    def params(key):
        k = jax.random.split(jax.random.key(key), 2)
        return {"a": jax.random.normal(k[0], (3, 5)), "scale": jnp.ones(5), "b": jax.random.normal(k[1], (5, 2))}

    problem = Problem.from_model(from_function(training, params(0)), x, y, chunk=16)
    recomputed = Recomputed(statistics, lambda p, s, x: normalised(p, hidden(p, x), *s))
    settings = PathSettings(cycles=(Cycle(5, 1e-3),), batch=16, probes=1)
    found = minimum_energy_path(problem, params(0), params(1), settings, recomputed=recomputed)
    whole = Problem.from_model(from_function(training, params(0)), x, y)  # one batch: its statistics are the data's
    expected = [float(whole.energy(w)) for w in found.images]
    np.testing.assert_allclose(found.profile.energy[found.profile.image], expected, rtol=1e-10)
    assert abs(expected[0] - float(problem.energy(found.images[0]))) > 1e-4  # chunks of 16 have others


def test_ensemble_tree_first_then_the_highest_edge_until_nothing_changes(x64, toy):
    problem, ends, _ = toy
    quick = PathSettings(cycles=(Cycle(60, 2e-2), Cycle(60, 2e-3)), probes=4)
    seen = []
    found = connect_minima(problem, ends, quick, patience=1, on_path=lambda a, b, path: seen.append((a, b)))
    assert seen == [tuple(p) for p in found.pairs] and len(set(seen)) == len(seen)
    assert np.isfinite(found.minimax).all()
    np.testing.assert_allclose(found.minimax, found.minimax.T)
    assert (found.minimax + 1e-12 >= np.maximum.outer(found.energies, found.energies)).all()
    tops = found.history.top.to_numpy()[1:]  # joined after two paths
    assert (np.diff(tops) <= 1e-12).all()
    assert len(found.to_pandas()) == len(found.paths) == len(found.pairs)


def test_wrong_arguments_say_what_to_do(x64, toy):
    problem, ends, _ = toy
    for kwargs, word in (
        ({"images": 2}, "images"),
        ({"max_images": 4}, "max_images"),
        ({"cycles": ()}, "cycles"),
        ({"optimiser": "lbfgs"}, "optimiser"),
        ({"batch": 0}, "batch"),
    ):
        with pytest.raises(ArgumentError, match=word):
            PathSettings(**kwargs)
    with pytest.raises(DataError, match="parameters"):
        minimum_energy_path(problem, ends[0][:-1], ends[1])
    with pytest.raises(DataError, match="same point"):
        minimum_energy_path(problem, ends[0], ends[0])
    with pytest.raises(DataError, match="finite"):
        minimum_energy_path(problem, ends[0], ends[1] * np.nan)
    with pytest.raises(ConvergenceError, match="learning rate"):
        minimum_energy_path(
            Problem.from_energy(mueller_brown, 2), *MINIMA, PathSettings(optimiser="sgd", cycles=(Cycle(40, 1e6),))
        )
    with pytest.raises(ArgumentError, match="before shard_data"):
        minimum_energy_path(shard_data(problem, jax.make_mesh((1,), ("data",))), ends[0], ends[1])
    with pytest.raises(DataError, match="path must be"):
        minimum_energy_path(problem, ends[0], ends[1], path=np.zeros((2, problem.size)))
    assert sum(c.steps for c in cycles(10)) == 120 and cycles(10)[-1].climb


def test_devices_change_rounding_only():
    """Images over 4 devices, and images and rows over 2 x 2, against one device."""
    out = on_devices(
        """
        import jax, numpy as np
        jax.config.update("jax_enable_x64", True)
        from jaxland import Problem, mlp
        from jaxland.paths import Cycle, PathSettings, minimum_energy_path

        rng = np.random.default_rng(0)
        x = rng.normal(size=(64, 3))
        problem = Problem.from_model(mlp((3, 5, 2)), x, (x[:, 0] > 0).astype(int), l2=1e-3)
        a, b = rng.normal(size=(2, problem.size))
        schedule = (Cycle(15, 1e-2), Cycle(15, 1e-3), Cycle(10, 1e-3, True))
        settings = PathSettings(images=5, max_images=6, cycles=schedule, batch=16, threshold=0.02)

        def run(**axes):
            mesh = jax.make_mesh(tuple(axes.values()), tuple(axes)) if axes else None
            return minimum_energy_path(problem, a, b, settings, mesh=mesh, test=(x[:7], np.arange(7) % 2))

        one = run()
        assert len(one.images) == 6
        for axes in ({"images": 4}, {"images": 2, "data": 2}):
            found = run(**axes)
            np.testing.assert_allclose(found.images, one.images, atol=1e-10)
            np.testing.assert_allclose(found.profile.energy, one.profile.energy, atol=1e-11)
            np.testing.assert_allclose(found.profile.test_loss, one.profile.test_loss, atol=1e-11)
        print("equal")
        """
    )
    assert out.strip() == "equal"


def test_loops_on_the_host_change_rounding_only(x64, toy):
    """The driver for convolutions on a CPU against the compiled loop, on one energy."""
    problem, ends, _ = toy
    rule = optax.adam(1.0)
    images = np.linspace(ends[0], ends[1], 5)
    padded = auto_band.pad(images, 6)
    out = []
    for build in (auto_band.program, auto_band.hosted_program):
        program = build(problem.energy_of, rule, chunked=False)
        state = program.start(padded)
        integers = [jnp.asarray(i, jnp.int32) for i in (5, 2, 9)]
        count, climbing, steps = integers
        out.append(program.advance(state, count, climbing, 1e-2, steps, problem.data))
    for one, other in zip(jax.tree.leaves(out[0]), jax.tree.leaves(out[1])):
        np.testing.assert_allclose(one, other, atol=1e-9)
    assert not auto_band.loops_on_host(problem.energy_of, problem.w, problem.data)
