"""Contextual decomposition of a transformer and of an LSTM, with nothing prepared for either.

Sentences of ten tokens; the label is the sum of sentiments, and "not" turns the word after it around. Both networks
learn it. Decomposing them by words, and by the phrase "not <word>", shows what scores of single words cannot: the
phrase as one player has the sign of its meaning. Every split adds up to the logit to rounding.

    python examples/trim_transformer_lstm.py
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxland.core.decomposition import decompose_parts

WORDS = ["the", "a", "film", "was", "and", "it", "good", "great", "fine", "bad", "awful", "dull", "not"]
POSITIVE, NEGATIVE, NOT, LENGTH = range(6, 9), range(9, 12), 12, 10


def sentences(seed, n):
    """Token ids [n, 10] and labels: whether the summed sentiment is positive (never zero)."""
    rng = np.random.default_rng(seed)
    chance = np.array([3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 7.0])
    ids = rng.choice(len(WORDS), size=(3 * n, LENGTH), p=chance / chance.sum())
    value = np.isin(ids, POSITIVE).astype(int) - np.isin(ids, NEGATIVE).astype(int)
    turned = np.concatenate([np.zeros((3 * n, 1), bool), ids[:, :-1] == NOT], axis=1)
    total = np.where(turned, -value, value).sum(1)
    keep = np.flatnonzero(total != 0)[:n]
    return ids[keep].astype(np.int32), (total[keep] > 0).astype(np.int32)


class Transformer(nnx.Module):
    """Embedding with positions, two pre-norm blocks, mean over tokens, a logit."""

    def __init__(self, rngs, width=32):
        self.words, self.places = nnx.Embed(len(WORDS), width, rngs=rngs), nnx.Embed(LENGTH, width, rngs=rngs)
        self.blocks = nnx.List(
            [
                nnx.Dict(
                    attention=nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs),
                    norm=nnx.LayerNorm(width, rngs=rngs),
                    second=nnx.LayerNorm(width, rngs=rngs),
                    up=nnx.Linear(width, 2 * width, rngs=rngs),
                    down=nnx.Linear(2 * width, width, rngs=rngs),
                )
                for _ in range(2)
            ]
        )
        self.head = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, ids):
        """Logit [n]."""
        h = self.words(ids) + self.places(jnp.arange(LENGTH))
        for b in self.blocks:
            h = h + b.attention(b.norm(h))
            h = h + b.down(jax.nn.gelu(b.up(b.second(h))))
        return self.head(h.mean(1))[:, 0]


class Recurrent(nnx.Module):
    """Embedding, LSTM over the sentence, a logit from the last state."""

    def __init__(self, rngs, width=32):
        self.words = nnx.Embed(len(WORDS), width, rngs=rngs)
        self.cell = nnx.OptimizedLSTMCell(width, width, rngs=rngs)
        self.head = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, ids):
        """Logit [n]."""
        x = self.words(ids)
        start = (jnp.zeros((len(ids), 32)), jnp.zeros((len(ids), 32)))

        def step(carry, token):
            return self.cell(carry, token)

        carry, _ = jax.lax.scan(step, start, x.swapaxes(0, 1))
        return self.head(carry[1])[:, 0]


def train(module, steps=1500, batch=128):
    """Adam, one jitted scan; returns ``apply(params, ids)`` and the parameters."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    ids, labels = sentences(0, 20_000)
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def apply(params, ids):
        return nnx.merge(graph, params, jax.tree.map(lambda leaf: leaf, rest))(ids)

    @jax.jit
    def run(params, ids, labels):
        def step(carry, key):
            params, state = carry
            rows = jax.random.randint(key, (batch,), 0, len(ids))
            loss = lambda p: optax.sigmoid_binary_cross_entropy(apply(p, ids[rows]), labels[rows]).mean()  # noqa: E731
            updates, state = optimiser.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(jax.random.key(1), steps)
        return jax.lax.scan(step, (params, optimiser.init(params)), keys)[0][0]

    return apply, run(params, jnp.asarray(ids), jnp.asarray(labels))


def phrases(ids):
    """One mask per adjacent pair [9, n, 10]."""
    place = np.arange(LENGTH)
    pairs = [(place == k) | (place == k + 1) for k in range(LENGTH - 1)]
    return jnp.asarray(np.broadcast_to(np.stack(pairs)[:, None], (LENGTH - 1, *ids.shape)))


def main():
    """Train both, decompose by words and by pairs, report completeness and the sign of negated phrases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a short training, 40 sentences")
    small = parser.parse_args().small
    ids, labels = sentences(1, 40 if small else 400)
    ids = jnp.asarray(ids)
    words = jnp.broadcast_to(jnp.eye(LENGTH, dtype=bool)[:, None], (LENGTH, *ids.shape))
    first, second = np.asarray(ids[:, :-1]), np.asarray(ids[:, 1:])
    previous = np.concatenate([np.zeros((len(ids), 1), int), first[:, :-1]], axis=1)
    negated = (first == NOT) & (second >= 6) & (second < NOT) & (previous != NOT)
    meaning = np.where(second >= 9, 1, -1)
    found = []
    for module in (Transformer(nnx.Rngs(0)), Recurrent(nnx.Rngs(0))):
        name = type(module).__name__.lower()
        apply, params = train(module, steps=50 if small else 1500)
        accuracy = np.mean((np.asarray(apply(params, ids)) > 0) == labels)
        decompose = jax.jit(lambda p, i, m, apply=apply: decompose_parts(lambda t: apply(p, t), i, m))
        one, two = decompose(params, ids, words), decompose(params, ids, phrases(ids))
        gap = float(jnp.max(jnp.abs(one.beta + one.gamma + one.const - apply(params, ids))))
        rest = decompose(params, ids, ~words).beta
        symmetric = float(jnp.max(jnp.abs(one.beta + rest + one.const - apply(params, ids))))
        pair, alone = np.asarray(two.beta).T, np.asarray(one.beta).T[:, 1:]
        print(
            f"{name}: accuracy {accuracy:.3f} ({len(ids)} new sentences), {int(negated.sum())} phrases 'not <word>'"
        )
        print(
            f"  beta + gamma + const - logit: at most {gap:.1e}; a word + all others + const - logit: {symmetric:.1e}"
        )
        right = [np.mean(np.sign(v) == meaning, where=negated) for v in (pair, alone)]
        print(f"  sign of the meaning: phrase as one player {right[0]:.0%}, the word alone {right[1]:.0%}")
        found.append(f"{name}: phrase {right[0]:.0%}, word alone {right[1]:.0%}")
        row = int(np.flatnonzero(negated.any(1))[0])
        text = "  ".join(f"{WORDS[w]} {s:+.2f}" for w, s in zip(np.asarray(ids[row]), np.asarray(one.beta)[:, row]))
        at = int(np.flatnonzero(negated[row])[0])
        print(f"  {text}\n  'not {WORDS[int(ids[row, at + 1])]}' together: {pair[row, at]:+.2f}")
    print(f"finding: the sign of 'not <word>' comes out right as one player, not word by word ({'; '.join(found)})")


if __name__ == "__main__":
    main()
