"""Automated nudged elastic band with evenly spaced images, for losses with many parameters.

AutoNEB (Kolsbjerg, Groves & Hammer 2016) as adapted to neural networks by Draxler, Veschgini, Salmhofer & Hamprecht
(ICML 2018): springs of infinite stiffness (after every step the images are redistributed evenly along the path),
first-order steps on the force across the path with mini-batch losses, few images at first, more where straight
segments between them hide a rise. A climbing image (Henkelman, Uberuaga & Jonsson 2000) may refine the highest one.

Images are rows 0..count-1 of an array of fixed ``capacity``, so that a path that grows compiles rarely; rows beyond
repeat the last end. On a mesh with an axis "images" whole images are evaluated per device; the geometry (arc lengths,
tangents, redistribution) is done with the parameters sharded instead, where it needs no neighbour but only sums.
With an axis "data" each mini-batch is spread over it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from jaxland.core.solvers.band import tangents

Energy = Callable[[jax.Array, PyTree], jax.Array]
Count = int | np.integer | jax.Array
IMAGES, DATA = "images", "data"


class BandState(NamedTuple):
    """What a path carries from step to step: images [capacity, N] and the optimiser's state."""

    images: Float[Array, "capacity N"]
    optimiser: optax.OptState


class BandInfo(NamedTuple):
    """The last evaluation: energies [capacity] (0 beyond the path), rms force across it [capacity], arc length."""

    energies: Float[Array, " capacity"]
    force: Float[Array, " capacity"]
    length: Float[Array, ""]


def capacity(count: int, devices: int = 1) -> int:
    """Rows to allocate for ``count`` images: per device a power of two or 3/4 of one: few shapes."""
    need = -(-count // devices)
    power = 1 << max(0, need - 1).bit_length()
    return devices * (3 * power // 4 if power >= 4 and need <= 3 * power // 4 else power)


def pad(images: np.ndarray, rows: int) -> np.ndarray:
    """Images [count, N] with the last one repeated up to ``rows``."""
    return np.concatenate([images, np.repeat(images[-1:], rows - len(images), axis=0)])


def arc_positions(images: Float[Array, "capacity N"]) -> Float[Array, " capacity"]:
    """Arc length from the first image to each, along straight segments."""
    steps = jnp.sqrt(jnp.sum((images[1:] - images[:-1]) ** 2, axis=1))
    return jnp.concatenate([jnp.zeros((1,), steps.dtype), jnp.cumsum(steps)])


def redistribute(
    images: Float[Array, "capacity N"], count: Int[Array, ""], anchor: Int[Array, ""]
) -> Float[Array, "capacity N"]:
    """Images moved along their polygon to equal arc distances; ends stay, and so does ``anchor`` (< 1: none)."""
    s = arc_positions(images)
    rows = jnp.arange(images.shape[0], dtype=count.dtype)
    last = count - 1
    fixed = jnp.where((anchor > 0) & (anchor < last), anchor, 0)
    before = rows.astype(s.dtype) * s[fixed] / jnp.maximum(fixed, 1).astype(s.dtype)
    beyond, length = (rows - fixed).astype(s.dtype), jnp.maximum(last - fixed, 1).astype(s.dtype)
    after = s[fixed] + beyond * (s[last] - s[fixed]) / length
    target = jnp.where(rows <= fixed, before, after)
    j = jnp.clip(jnp.searchsorted(s, target, side="right").astype(count.dtype) - 1, 0, last - 1)
    gap = s[j + 1] - s[j]
    fraction = jnp.clip((target - s[j]) / jnp.where(gap > 0, gap, 1), 0, 1)
    moved = images[j] + fraction[:, None] * (images[j + 1] - images[j])
    kept = (rows == 0) | (rows >= last) | ((rows == fixed) & (fixed > 0))
    return jnp.where(kept[:, None], images, moved)


def across(
    images: Float[Array, "capacity N"],
    energies: Float[Array, " capacity"],
    gradients: Float[Array, "capacity N"],
    count: Int[Array, ""],
    climbing: Int[Array, ""],
) -> Float[Array, "capacity N"]:
    """g - (g.t) t at the inner images, g - 2 (g.t) t at the climbing one (< 1: none), 0 elsewhere."""
    t = tangents(images, energies)
    rows = jnp.arange(images.shape[0], dtype=count.dtype)
    times = jnp.where((rows == climbing) & (climbing > 0), 2, 1).astype(images.dtype)
    force = gradients - (times * jnp.sum(gradients * t, axis=1))[:, None] * t
    return jnp.where(_inner(rows, count)[:, None], force, 0)


def _inner(rows: jax.Array, count: jax.Array) -> jax.Array:
    return (rows > 0) & (rows < count - 1)


def _places(rows: int, count: jax.Array, devices: int) -> tuple[jax.Array, jax.Array]:
    """Which image each row of the evaluation holds, every device an equal share; and the row of each image."""
    share = -(-count // devices)
    at = jnp.arange(rows, dtype=count.dtype)
    device, slot = at // (rows // devices), at % (rows // devices)
    image = jnp.where(slot < share, jnp.minimum(device * share + slot, rows - 1), rows - 1)
    row = jnp.minimum(at // share, devices - 1) * (rows // devices) + jnp.minimum(at % share, rows // devices - 1)
    return image, row


def _evaluate(
    energy: Energy, mesh: Mesh | None, together: int | None
) -> Callable[[jax.Array, jax.Array, PyTree], tuple[jax.Array, jax.Array]]:
    """Energies [capacity] and gradients [capacity, N] (0 at the ends) of the images at rows < count."""

    def local(images: jax.Array, inner: jax.Array, active: jax.Array, batch: PyTree) -> tuple[jax.Array, jax.Array]:
        rows, n = images.shape
        group = rows if together is None else min(together, rows)
        both = jax.value_and_grad(energy)

        def one(w: jax.Array, moves: jax.Array) -> tuple[jax.Array, jax.Array]:
            if group > 1:  # under vmap both branches would run
                return both(w, batch)
            return jax.lax.cond(moves, lambda: both(w, batch), lambda: (energy(w, batch), jnp.zeros_like(w)))

        def body(i: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            start = jnp.minimum(i * group, rows - group)
            ws = jax.lax.dynamic_slice(images, (start, jnp.zeros_like(start)), (group, n))
            moves = jax.lax.dynamic_slice(inner, (start,), (group,))
            e, g = jax.vmap(one)(ws, moves) if group > 1 else jax.tree.map(lambda a: a[None], one(ws[0], moves[0]))
            return (
                # Data wider than the parameters widen the energy.
                jax.lax.dynamic_update_slice(found[0], e.astype(images.dtype), (start,)),
                jax.lax.dynamic_update_slice(found[1], g, (start, jnp.zeros_like(start))),
            )

        empty = (jnp.zeros((rows,), images.dtype), jnp.zeros_like(images))
        e, g = jax.lax.fori_loop(0, -(-active[0] // group), body, empty)
        if mesh is not None and DATA in mesh.axis_names:
            e, g = jax.lax.pmean((e, g), DATA)
        return e, jnp.where(inner[:, None], g, 0)

    devices = 1 if mesh is None else mesh.shape.get(IMAGES, 1)

    def evaluate(images: jax.Array, count: jax.Array, batch: PyTree) -> tuple[jax.Array, jax.Array]:
        rows = images.shape[0]
        image, row = _places(rows, count, devices)
        share = -(-count // devices)
        active = jnp.clip(count - jnp.arange(devices, dtype=count.dtype) * share, 0, share)
        args = (images[image], _inner(image, count), active, batch)
        if mesh is None:
            e, g = local(*args)
        else:
            by_image = PartitionSpec(IMAGES if IMAGES in mesh.axis_names else None)
            by_row = PartitionSpec(DATA if DATA in mesh.axis_names else None)
            e, g = jax.shard_map(
                local,
                mesh=mesh,
                in_specs=(by_image, by_image, by_image, by_row),
                out_specs=(by_image, by_image),
                check_vma=False,
            )(*args)
        return jnp.where(jnp.arange(rows, dtype=count.dtype) < count, e[row], 0), g[row]

    return evaluate


class BandProgram(NamedTuple):
    """Compiled functions of one energy, optimiser and mesh.

    Attributes:
        start: ``images [capacity, N] -> BandState``.
        advance: ``(state, count, climbing, rate, steps, batches) -> (BandState, BandInfo)``: ``steps`` steps, the
            i-th on ``batches[i]``; ``batches`` are leaves with one leading axis for steps (or no leaves at all).
    """

    start: Callable[[jax.Array | np.ndarray], BandState]
    advance: Callable[..., tuple[BandState, BandInfo]]


def _move(rule: optax.GradientTransformation) -> Callable[..., tuple[BandState, BandInfo]]:
    """One step of a path whose images have been evaluated."""

    def move(
        state: BandState,
        energies: jax.Array,
        gradients: jax.Array,
        count: jax.Array,
        climbing: jax.Array,
        rate: jax.Array,
    ) -> tuple[BandState, BandInfo]:
        images = state.images
        force = across(images, energies, gradients, count, climbing)
        update, optimiser = rule.update(force, state.optimiser, images)
        inner = _inner(jnp.arange(images.shape[0], dtype=count.dtype), count)
        images = images + jnp.where(inner[:, None], rate * update, 0)
        images = redistribute(images, count, climbing)
        rms = jnp.sqrt(jnp.mean(force * force, axis=1))
        return BandState(images, optimiser), BandInfo(energies, rms, arc_positions(images)[count - 1])

    return move


@lru_cache(maxsize=32)
def hosted_program(energy: Energy, rule: optax.GradientTransformation, chunked: bool = True) -> BandProgram:
    """As ``program`` on one device, but the loops over steps and images run on the host (see ``loops_on_host``)."""
    both, alone = jax.jit(jax.value_and_grad(energy)), jax.jit(energy)
    rows_of = jax.jit(lambda images: tuple(images))

    def packed(
        state: BandState, energies: list, gradients: list, count: jax.Array, climbing: jax.Array, rate: jax.Array
    ) -> tuple[BandState, BandInfo]:
        spare = state.images.shape[0] - len(energies)
        dtype = state.images.dtype
        e = jnp.stack(energies + [jnp.zeros((), dtype)] * spare)
        nothing = jnp.zeros(state.images.shape[1:], dtype)
        g = jnp.stack([nothing, *gradients] + [nothing] * (spare + 1))
        return _move(rule)(state, e, g, count, climbing, jnp.asarray(rate, dtype))

    move = jax.jit(packed, donate_argnums=0)

    def advance(
        state: BandState, count: Count, climbing: Count, rate: float | jax.Array, steps: Count, batches: PyTree
    ) -> tuple[BandState, BandInfo]:
        info: BandInfo | None = None
        for i in range(int(steps)):
            batch = jax.tree.map(lambda a, i=i: a[i], batches) if chunked else batches
            first, *inner, last = rows_of(state.images)[: int(count)]
            found = [both(w, batch) for w in inner]
            energies = [alone(first, batch), *(e for e, _ in found), alone(last, batch)]
            state, info = move(state, energies, [g for _, g in found], count, climbing, rate)
        assert info is not None, "a path is advanced by one step at least"
        return state, info

    return BandProgram(jax.jit(lambda images: BandState(images, rule.init(images))), advance)


def loops_on_host(f: Callable[..., PyTree], *args: PyTree) -> bool:
    """Whether loops over ``f`` should run on the host: on a CPU, where it holds convolutions.

    Measured with jax 0.10.1: XLA's CPU backend takes 14 times as long for the gradient of a residual network inside
    any loop or branch as outside of them; an accelerator's does not care.
    """
    if jax.default_backend() != "cpu":
        return False
    return "conv_general_dilated" in str(jax.make_jaxpr(f)(*args))


@lru_cache(maxsize=32)
def program(
    energy: Energy,
    rule: optax.GradientTransformation,
    mesh: Mesh | None = None,
    together: int | None = 1,
    chunked: bool = True,
) -> BandProgram:
    """Steps of a path.

    Args:
        energy: pure ``(w[N], batch) -> scalar``, the mean over the rows of the batch; hashable, reused between calls.
        rule: optax transformation with learning rate 1; its updates are multiplied by the rate of the cycle.
        mesh: axes "images" and "data", either or both; the number of rows of a batch must be a multiple of "data".
        together: images evaluated in one batch per device; None for all of them, 1 for the least memory.
        chunked: batches have a leading axis for steps; False: one fixed batch serves every step.
    """
    evaluate = _evaluate(energy, mesh, together)

    def spread(images: jax.Array) -> jax.Array:
        if mesh is None or IMAGES not in mesh.axis_names:
            return images
        return jax.lax.with_sharding_constraint(images, NamedSharding(mesh, PartitionSpec(None, IMAGES)))

    move = _move(rule)

    def step(
        state: BandState, count: jax.Array, climbing: jax.Array, rate: jax.Array, batch: PyTree
    ) -> tuple[BandState, BandInfo]:
        images = spread(state.images)
        energies, gradients = evaluate(images, count, batch)
        return move(BandState(images, state.optimiser), energies, spread(gradients), count, climbing, rate)

    def advance(
        state: BandState, count: jax.Array, climbing: jax.Array, rate: jax.Array, steps: jax.Array, batches: PyTree
    ) -> tuple[BandState, BandInfo]:
        rows, dtype = state.images.shape[0], state.images.dtype
        nothing = BandInfo(jnp.zeros((rows,), dtype), jnp.zeros((rows,), dtype), jnp.zeros((), dtype))
        rate = jnp.asarray(rate, dtype)

        def body(i: jax.Array, carry: tuple[BandState, BandInfo]) -> tuple[BandState, BandInfo]:
            batch = jax.tree.map(lambda a: a[i], batches) if chunked else batches
            return step(carry[0], count, climbing, rate, batch)

        return jax.lax.fori_loop(0, steps, body, (state, nothing))

    return BandProgram(
        jax.jit(lambda images: BandState(spread(images), rule.init(images))), jax.jit(advance, donate_argnums=0)
    )


def probes(images: np.ndarray, between: int) -> np.ndarray:
    """Points [(count - 1) (between + 1) + 1, N]: the images and ``between`` points on each straight segment."""
    t = np.arange(between + 1, dtype=images.dtype) / (between + 1)
    parts = images[:-1, None] + t[None, :, None] * (images[1:] - images[:-1])[:, None]
    return np.concatenate([parts.reshape(-1, images.shape[1]), images[-1:]])


def hidden_rises(energies: np.ndarray, between: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest rise above linear interpolation per segment, and where on it (0..1), from energies at ``probes``."""
    at = np.asarray(energies, float)
    left, right = at[: -1 : between + 1], at[between + 1 :: between + 1]
    t = np.arange(between + 1) / (between + 1)
    excess = at[:-1].reshape(-1, between + 1) - (left[:, None] + t * (right - left)[:, None])
    place = np.argmax(excess, axis=1)
    return excess[np.arange(len(place)), place], t[place]


def insertions(energies: np.ndarray, between: int, threshold: float, room: int) -> list[tuple[int, float]]:
    """Where to insert images: (segment, fraction), the largest hidden rises first, at most one per segment.

    A rise counts when it exceeds ``threshold`` times the range of the energy along the path (Draxler et al.: 0.2).
    """
    rise, place = hidden_rises(energies, between)
    finite = np.asarray(energies)[np.isfinite(energies)]
    limit = threshold * float(np.ptp(finite)) if len(finite) else 0.0
    order = [int(i) for i in np.argsort(-rise, kind="stable") if rise[i] > limit and place[i] > 0]
    return [(i, float(place[i])) for i in order[: max(0, room)]]


def insert(images: np.ndarray, where: list[tuple[int, float]]) -> np.ndarray:
    """Images with new ones on the given segments."""
    parts: list[np.ndarray] = []
    fractions = dict(where)
    for i in range(len(images)):
        parts.append(images[i])
        if i in fractions:
            parts.append(images[i] + images.dtype.type(fractions[i]) * (images[i + 1] - images[i]))
    return np.stack(parts)
