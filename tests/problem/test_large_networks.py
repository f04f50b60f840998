"""Large networks: extreme modes, short basis formats, data over devices and processes, residual net, transformer."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared_cases import on_devices

from jaxland import Problem, mlp, paths
from jaxland.core.energy import derivatives as curvature
from jaxland.core.krylov import thick_restart
from jaxland.core.krylov.step import enough
from jaxland.errors import ArgumentError, DataError, ProblemError, StoreError
from jaxland.hessian.modes import extreme_modes
from jaxland.hessian.padded import hosted_product
from jaxland.models.networks import next_token_loss, resnet, transformer
from jaxland.problem.sharded import shard_data


def matrix(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return (q * values) @ q.T


def run(a, dtype, capacity, low, high, tolerance, storage=None, most=800):
    a = jnp.asarray(a, dtype)
    product = jax.jit(lambda v: jnp.dot(a, v, precision="highest"))
    state = thick_restart.basis(len(a), capacity, dtype=dtype, storage=storage)
    while not enough(state, low, high, tolerance) and state.products < most:
        if state.filled == state.rows.shape[0]:
            state = thick_restart.restart(state, low, high)
        state = thick_restart.extend(state, product, 8)
    return state, product


def small_network():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    return Problem.from_model(mlp((3, 8, 5, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3, chunk=16)


SPECTRUM = np.concatenate([-np.geomspace(1e-3, 0.3, 50), np.geomspace(1e-6, 50, 250)])


@pytest.mark.parametrize(("low", "high"), [(5, 5), (3, 0), (0, 4)])
def test_both_ends_within_few_vectors(x64, low, high):
    a = matrix(SPECTRUM)
    state, product = run(a, jnp.float64, 32, low, high, 1e-10)
    assert state.restarts > 0 and state.rows.shape[0] == 32
    found = thick_restart.correct(product, thick_restart.vectors(state, low, high), low, tolerance=1e-9, rounds=0)
    expected = thick_restart.ends(np.sort(SPECTRUM), low, high)
    np.testing.assert_allclose(found.values, expected, atol=1e-10)
    assert found.residuals.max() < 1e-8
    q = np.asarray(found.vectors)
    np.testing.assert_allclose(q @ q.T, np.eye(low + high), atol=1e-8)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_spaces_that_close(x64, n):
    values = np.zeros(n)
    values[: n // 2] = 1.0  # two eigenvalues: the Krylov space closes after two products and goes on elsewhere
    state, product = run(matrix(values), jnp.float64, 64, min(n, 3), 0, 1e-12)
    found = thick_restart.correct(product, thick_restart.vectors(state, min(n, 3), 0), min(n, 3), tolerance=1e-12)
    assert state.exhausted or state.filled > 3
    assert found.residuals.max() < 1e-12
    assert abs(found.values[0]) < 1e-12


def test_bfloat16_basis_gives_values_and_correction_gives_vectors():
    """Rounded vectors are off by 1e-3, values by far less; one correction brings residuals down several times."""
    values = np.concatenate([-np.linspace(1, 3, 4), np.random.default_rng(1).normal(size=1490) * 0.05, [6, 7, 9, 12]])
    state, product = run(matrix(values), jnp.float32, 48, 3, 3, 3e-3, storage=jnp.bfloat16)
    assert state.rows.dtype == jnp.bfloat16
    x = thick_restart.vectors(state, 3, 3)
    raw = thick_restart.correct(product, x, 3, tolerance=1e-6, rounds=0)
    corrected = thick_restart.correct(product, x, 3, tolerance=1e-6, rounds=2)
    expected = thick_restart.ends(np.sort(values), 3, 3)
    np.testing.assert_allclose(raw.values, expected, atol=1e-4)
    np.testing.assert_allclose(corrected.values, expected, atol=1e-5)
    assert raw.residuals.max() < 0.1 and corrected.residuals.max() < 0.1 * raw.residuals.max()
    basis = np.asarray(state.rows[: state.filled], float)
    assert np.abs(basis @ basis.T - np.eye(state.filled)).max() < 5e-3
    off = basis @ basis.T - np.diag(np.diag(basis @ basis.T))
    assert np.abs(off).max() < 1e-3  # semiorthogonal: sqrt of float32's precision is 2.4e-4


def test_bfloat16_values_where_vectors_are_concentrated():
    """Most weight in few coordinates: roundings are not random there; Rayleigh quotients must not show it."""
    rng = np.random.default_rng(0)
    a = np.diag(np.concatenate([[6.1, 4.3, -2.7, -1.9], 0.1 * rng.normal(size=796)]))
    noise = rng.normal(size=(800, 800)) * 0.01
    a = a + (noise + noise.T) / 2
    state, product = run(a, jnp.float32, 24, 2, 2, 1e-3, storage=jnp.bfloat16)
    raw = thick_restart.correct(product, thick_restart.vectors(state, 2, 2), 2, tolerance=1e-6, rounds=0)
    expected = thick_restart.ends(np.linalg.eigvalsh(a), 2, 2)
    np.testing.assert_allclose(raw.values, expected, atol=5e-5)


def test_modes_of_a_network_against_all_eigenvalues(x64):
    problem = small_network()
    expected = np.linalg.eigvalsh(problem.hessian())
    found = extreme_modes(problem, basis=24)
    np.testing.assert_allclose(found.lowest, expected[:5], atol=1e-8)
    np.testing.assert_allclose(found.highest, expected[::-1][:5], atol=1e-8)
    assert found.converged and found.status == "converged" and found.restarts > 0
    assert found.basis_bytes == 24 * problem.size * 8
    h = np.asarray(problem.hessian())
    for values, vectors, residuals in (
        (found.lowest, found.lowest_vectors, found.lowest_residuals),
        (found.highest, found.highest_vectors, found.highest_residuals),
    ):
        true = np.linalg.norm(vectors @ h - values[:, None] * vectors, axis=1)
        np.testing.assert_allclose(true, residuals, atol=1e-13)
    assert found.negative == np.sum(expected[:5] < 0)
    assert len(found.to_pandas()) == 10 and "products" in found._repr_html_()


def test_modes_go_on_from_a_checkpoint_bit_for_bit(x64, tmp_path):
    problem, place = small_network(), tmp_path / "modes.npz"
    whole = extreme_modes(problem, basis=24)
    short = extreme_modes(problem, basis=24, max_products=30, corrections=0, checkpoint=place)
    assert short.status == "products" and not short.converged
    done = extreme_modes(problem, basis=24, checkpoint=place)
    np.testing.assert_array_equal(done.lowest_vectors, whole.lowest_vectors)
    np.testing.assert_array_equal(done.highest, whole.highest)
    assert done.products == whole.products
    with pytest.raises(StoreError, match="another point"):
        extreme_modes(problem, np.ones(problem.size), basis=24, checkpoint=place)


def test_modes_stop_on_ctrl_c_and_time_limit(x64, tmp_path):
    problem = small_network()

    def interrupt(_):
        os.kill(os.getpid(), signal.SIGINT)

    found = extreme_modes(problem, basis=24, progress=interrupt)
    assert found.status == "interrupted" and len(found.highest) == 5
    late = extreme_modes(problem, basis=24, time_limit=0.0)
    assert late.status == "time limit" and np.isfinite(late.highest_residuals).all()


def test_wrong_arguments_say_what_to_do(x64):
    problem = small_network()
    for kwargs, word in (
        ({"lowest": 0, "highest": 0}, "lowest"),
        ({"basis": 10}, "basis"),
        ({"storage": "int8"}, "storage"),
        ({"storage": "nonsense"}, "storage"),
    ):
        with pytest.raises(ArgumentError, match=word):
            extreme_modes(problem, **kwargs)
    with pytest.raises(DataError, match="finite"):
        extreme_modes(problem, np.full(problem.size, np.nan))
    mesh = jax.make_mesh((1,), ("data",))
    with pytest.raises(ProblemError, match="plain energy"):
        shard_data(Problem.from_energy(lambda w: w @ w, 3), mesh)
    with pytest.raises(ArgumentError, match="axes data"):
        shard_data(problem, mesh, "rows")


@pytest.mark.slow
def test_four_devices_equal_one():
    """Rows and basis over four devices: 61 parameters and 50 rows, neither a multiple of four."""
    out = on_devices(
        """
        import jax, numpy as np
        jax.config.update("jax_enable_x64", True)
        from jaxland import Problem, mlp
        from jaxland.problem.sharded import shard_data
        from jaxland.hessian.modes import extreme_modes

        rng = np.random.default_rng(0)
        x = rng.normal(size=(50, 3))
        problem = Problem.from_model(mlp((3, 9, 3)), x, rng.integers(0, 3, 50), l2=1e-3, chunk=5)
        mesh = jax.make_mesh((4,), ("data",))
        spread = shard_data(problem, mesh)
        w, v = rng.normal(size=(2, problem.size))
        for name in ("energy", "gradient", "hvp", "losses"):
            args = (w, v) if name == "hvp" else (w,)
            np.testing.assert_allclose(getattr(spread, name)(*args), getattr(problem, name)(*args), atol=1e-14)
        held = rng.normal(size=(7, 3)), rng.integers(0, 3, 7)
        np.testing.assert_allclose(spread.with_data(*held).energy(w), problem.with_data(*held).energy(w), atol=1e-14)
        assert spread.n == 50 and spread.predict(w).shape == (50, 3)
        one, four = extreme_modes(problem, w, basis=24), extreme_modes(problem, w, basis=24, mesh=mesh)
        np.testing.assert_allclose(four.lowest, one.lowest, atol=1e-10)
        np.testing.assert_allclose(four.highest, one.highest, atol=1e-10)
        assert one.converged and four.converged and problem.size % 4
        print("equal")
        """
    )
    assert out.strip() == "equal"


def processes(folder, what):
    """One process, then two of two devices each; their results."""
    worker = str(Path(__file__).with_name("distributed_worker.py"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = dict(os.environ, JAX_PLATFORMS="cpu", XLA_FLAGS="--xla_force_host_platform_device_count=2")
    started = [
        subprocess.Popen(
            [sys.executable, worker, str(rank), str(count), str(port), str(folder), what],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, count in ((0, 1), (0, 2), (1, 2))
    ]
    try:
        for process in started:
            text, _ = process.communicate(timeout=300)
            assert process.returncode == 0, text[-3000:]
    finally:
        for process in started:
            process.kill()
    return [np.load(folder / f"result_{name}.npz") for name in ("1_0", "2_0", "2_1")]


@pytest.mark.parametrize("what", ["sums", pytest.param("all", marks=pytest.mark.slow)])
def test_two_processes_equal_one(tmp_path, what):
    """``jax.distributed`` with gloo: energies, gradients, products (and modes, a path, checkpoints)."""
    one, *two = processes(tmp_path, what)
    for other in two:
        assert set(other.files) == set(one.files)
        for name in one.files:
            np.testing.assert_allclose(other[name], one[name], atol=1e-9 if what == "all" else 1e-14, err_msg=name)


def images_problem(n=48, seed=0, remat=False, **options):
    """Four blurred shapes on noisy 8 x 8 images, an easy task for a residual network of a few thousand weights."""
    rng = np.random.default_rng(seed)
    shapes = np.random.default_rng(9).normal(size=(4, 8, 8, 1))
    y = rng.integers(0, 4, n)
    x = (shapes[y] + 0.7 * rng.normal(size=(n, 8, 8, 1))).astype(np.float32)
    model = resnet(8, 4, channels=1, classes=4, groups=2, remat=remat, seed=seed)
    return Problem.from_model(model, x, y, **options)


def test_path_between_toy_residual_networks():
    """float32, mini-batches, convolutions (loops on the host), train and test data."""
    problem = images_problem(chunk=16)
    a, b = problem.w, images_problem(seed=1).w
    schedule = (paths.Cycle(12, 1e-2), paths.Cycle(6, 1e-3, True))
    settings = paths.PathSettings(images=4, max_images=5, cycles=schedule, batch=16, probes=2, block=6)
    test = images_problem(20, seed=3).data
    found = paths.minimum_energy_path(problem, a, b, settings, test=test)
    assert found.profile.energy.mean() < found.straight.energy.mean()  # the ends are not trained
    assert found.profile.test_error is not None and found.images.dtype == np.float32


@pytest.mark.slow
def test_modes_of_a_toy_residual_network():
    """In chunks from the host, the basis in bfloat16."""
    problem = images_problem(chunk=20)
    modes = extreme_modes(problem, lowest=2, highest=2, basis=16, storage="bfloat16", max_products=60)
    assert modes.storage == "bfloat16" and modes.basis_bytes == 16 * problem.size * 2
    v = modes.highest_vectors[0]
    image = np.asarray(problem.hvp(problem.w, v))
    np.testing.assert_allclose(np.linalg.norm(image - modes.highest[0] * v), modes.highest_residuals[0], atol=1e-3)


def test_products_chunk_by_chunk_from_the_host(x64):
    """What a network with convolutions uses on a CPU, here on a dense one: 60 rows in chunks of 16."""
    problem = small_network()
    v = np.random.default_rng(0).normal(size=problem.size)
    np.testing.assert_allclose(hosted_product(problem)(jnp.asarray(v)), problem.hvp(problem.w, v), atol=1e-14)


def test_networks_have_the_sizes_they_say():
    assert resnet().n_params == 269_722  # He et al.: 0.27M
    assert transformer().n_params == 10_868_992
    with pytest.raises(ArgumentError, match="depth"):
        resnet(9)
    with pytest.raises(ArgumentError, match="heads"):
        transformer(width=10, heads=3)


def test_residual_network_treats_examples_alone():
    problem = images_problem(6)
    whole = problem.predict()
    alone = np.concatenate([problem.predict(x=problem.x[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(whole, alone, atol=1e-5)


def test_transformer_is_causal_and_its_products_are_right(x64):
    model = transformer(11, 5, width=8, layers=1, heads=2)
    forward = jax.jit(model.apply)
    tokens = np.random.default_rng(0).integers(0, 11, (7, 6))
    out = forward(model.params, tokens[:, :5])
    changed = tokens[:, :5].copy()
    changed[:, 3] = (changed[:, 3] + 1) % 11
    np.testing.assert_allclose(forward(model.params, changed)[:, :3], out[:, :3], atol=1e-6)
    assert np.abs(forward(model.params, changed)[:, 3:] - out[:, 3:]).max() > 1e-3
    problem = Problem.from_model(model, tokens[:, :-1], tokens[:, 1:], loss=next_token_loss, chunk=3)
    problem = problem.at(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), problem.params))
    v = np.random.default_rng(1).normal(size=problem.size)
    step = 1e-5
    difference = (problem.gradient(problem.w + step * v) - problem.gradient(problem.w - step * v)) / (2 * step)
    np.testing.assert_allclose(problem.hvp(problem.w, v), difference, atol=1e-5 * np.abs(difference).max())


def test_rematerialisation_saves_residuals():
    """Bytes that the backward pass reads again, as traced; XLA's CPU backend is free to undo the saving."""
    tokens = np.random.default_rng(0).integers(0, 11, (16, 17))
    kept = []
    for remat in (False, True):
        model = transformer(11, 16, width=32, layers=2, heads=2, remat=remat)
        problem = Problem.from_model(model, tokens[:, :-1], tokens[:, 1:], loss=next_token_loss)
        back = jax.eval_shape(lambda w, problem=problem: jax.vjp(problem.energy_of, w, problem.data)[1], problem.w)
        kept.append(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(back)))
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.slow
def test_rematerialisation_keeps_the_gradient():
    for build in (
        lambda remat: images_problem(8, remat=remat),
        lambda remat: Problem.from_model(
            transformer(11, 8, width=8, layers=2, heads=2, remat=remat),
            *np.random.default_rng(0).integers(0, 11, (2, 6, 8)),
            loss=next_token_loss,
        ),
    ):
        plain, saving = build(False), build(True)
        np.testing.assert_allclose(plain.gradient(), saving.gradient(), atol=1e-5)
        v = np.random.default_rng(1).normal(size=plain.size).astype(np.float32)
        np.testing.assert_allclose(plain.hvp(plain.w, v), saving.hvp(plain.w, v), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_chunks_bound_the_memory_of_gradient_and_product():
    tokens = np.random.default_rng(0).integers(0, 11, (64, 17))
    used = []
    for chunk in (None, 4):
        model = transformer(11, 16, width=16, layers=1, heads=2)
        problem = Problem.from_model(model, tokens[:, :-1], tokens[:, 1:], loss=next_token_loss, chunk=chunk)
        product = jax.jit(lambda w, v, data, p=problem: curvature.hvp(lambda u: p.energy_of(u, data), w, v))
        compiled = product.lower(problem.w, problem.w, problem.data).compile()
        used.append(compiled.memory_analysis().temp_size_in_bytes)
    assert used[1] < 0.25 * used[0]
