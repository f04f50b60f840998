"""What a program serves and holds, and networks' weights as rows of registers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

ACTIVATIONS = ("tanh", "relu", "gelu")
LOSSES = ("cross_entropy", "squared_error")
WARP = 32
# Numbers a thread can keep (weights and sums) before the compiler spills: 255 registers of 4 bytes, less temporaries.
ROOM = {8: 92, 4: 190}
MOST_GROUPS = 16
_MOST_OUTPUTS = 8


@dataclass(frozen=True)
class Shape:
    """What a program does; hashable, since it is static under jit.

    Attributes:
        sizes: (inputs, hidden, outputs) or (inputs, hidden, hidden, outputs).
        activation, loss: see ``ACTIVATIONS`` and ``LOSSES``.
        lam: weight of the sum of squares of all weights.
        groups: threads a network's (first) hidden layer is spread over: 1, 2, 4, 8 or 16.
        target: "triton", or "interpret" where there is no GPU.
        ahead: points in flight in one thread, in float64.
        team: threads (times ``groups``) that share a network's points, in whole quenches; more than a warp where few
            networks have a GPU.
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str
    lam: float
    groups: int = 1
    target: str = "triton"
    ahead: int = 1
    team: int = 1

    @property
    def binary(self) -> bool:
        """Two classes: only the difference of the two logits matters."""
        return self.loss == "cross_entropy" and self.sizes[-1] == 2

    @property
    def logits(self) -> int:
        """Numbers that leave the network: 1 where binary."""
        return 1 if self.binary else self.sizes[-1]

    @property
    def units(self) -> int:
        """Hidden units of the first layer in one thread."""
        return -(-self.sizes[1] // self.groups)

    @property
    def threads(self) -> int:
        """Threads of a network."""
        return self.groups * self.team

    @property
    def networks(self) -> int:
        """Networks a program serves."""
        return max(1, WARP // self.threads)

    @property
    def warps(self) -> int:
        """Warps of a program."""
        return max(1, self.threads // WARP)

    @property
    def block(self) -> tuple[int, ...]:
        """A number of every thread: [networks], after [team] and [groups] where a network has several."""
        return (*(k for k in (self.team, self.groups) if k > 1), self.networks)

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of weights that differ between the threads of a network, and that they share."""
        d, last = self.sizes[0], self.sizes[-2]
        if len(self.sizes) == 3:
            return self.units * (1 + d + self.logits), self.logits
        return self.units * (1 + d), last * (1 + self.sizes[1]) + self.logits * (1 + last)

    def for_products(self, itemsize: int) -> Shape:
        """The shape whose threads hold weights, tangents and sums: more threads a network where one would spill."""
        made = self
        while len(self.sizes) == 3 and 3 * sum(made.rows) > ROOM[itemsize] and made.groups < MOST_GROUPS:
            made = replace(made, groups=2 * made.groups)
        return made

    @property
    def parameters(self) -> int:
        """Length of the flat weight vector."""
        return sum((a + 1) * b for a, b in pairwise(self.sizes))


def choose(
    sizes: tuple[int, ...], activation: str, loss: str, lam: float, itemsize: int, target: str = "triton"
) -> Shape | str:
    """The shape that serves a network, or why there is none."""
    if len(sizes) not in (3, 4):
        return "it serves dense networks (jaxland.mlp) with one or two hidden layers"
    if activation not in ACTIVATIONS:
        return f"activation {activation!r} is not among {', '.join(ACTIVATIONS)}"
    if loss not in LOSSES:
        return f"the loss is not among {', '.join(LOSSES)}"
    if loss == "cross_entropy" and sizes[-1] < 2:
        return "cross-entropy needs at least two outputs"
    shape = Shape(tuple(sizes), activation, loss, float(lam), target=target)
    if sizes[-1] <= _MOST_OUTPUTS:
        groups = 1
        while groups <= (MOST_GROUPS if len(sizes) == 3 else 1):
            made = replace(shape, groups=groups)
            if 2 * sum(made.rows) <= ROOM[itemsize]:
                return made
            groups *= 2
    return f"widths {sizes} are beyond a thread's registers: XLA's matrix products are better there"


def pack(shape: Shape, w: Float[Array, "N B"]) -> tuple[jax.Array, jax.Array]:
    """Flat weights (``ravel_pytree`` of ``jaxland.mlp``: b, W by rows, layer by layer) of B networks as rows.

    Own rows [rows, groups, B] (b1, W1 and, with one hidden layer, W2, by unit), shared rows [rows, B]; linear in w.
    """
    sizes, at, layers = shape.sizes, 0, []
    lanes = w.shape[1]
    for fan_in, fan_out in pairwise(sizes):
        bias = w[at : at + fan_out]
        layers.append((bias, w[at + fan_out : at + fan_out * (1 + fan_in)].reshape(fan_in, fan_out, lanes)))
        at += fan_out * (1 + fan_in)
    if shape.binary:
        bias, matrix = layers[-1]
        layers[-1] = (bias[1:] - bias[:1], matrix[:, 1:] - matrix[:, :1])

    def spread(rows: jax.Array) -> jax.Array:  # [k, hidden, B] -> [k * units, groups, B]
        more = shape.units * shape.groups - rows.shape[1]
        rows = jnp.pad(rows, ((0, 0), (0, more), (0, 0)))
        return rows.reshape(-1, shape.groups, lanes)

    (b1, w1), (bo, wo) = layers[0], layers[-1]
    own = [spread(b1[None]), spread(w1)]
    if len(sizes) == 3:
        return jnp.concatenate([*own, spread(wo.transpose(1, 0, 2))]), bo
    b2, w2 = layers[1]
    shared = [b2, w2.reshape(-1, lanes), bo, wo.transpose(1, 0, 2).reshape(-1, lanes)]
    return jnp.concatenate(own), jnp.concatenate(shared)


def unpack(shape: Shape, own: jax.Array, shared: jax.Array) -> Float[Array, "N B"]:
    """The transpose of ``pack``: sums per row back to the flat gradient."""
    like = jax.ShapeDtypeStruct((shape.parameters, own.shape[-1]), own.dtype)
    return jax.linear_transpose(partial(pack, shape), like)((own, shared))[0]


def lay_out(shape: Shape, x: Float[Array, "n d"], y: Array) -> tuple[jax.Array, jax.Array]:
    """Points along the last axis: inputs [d, n], targets [1 or c, n] in the inputs' dtype."""
    if shape.loss == "cross_entropy":
        return jnp.asarray(x).T, jnp.asarray(y).astype(x.dtype)[None]
    return jnp.asarray(x).T, jnp.reshape(y, (x.shape[0], shape.sizes[-1])).T.astype(x.dtype)
