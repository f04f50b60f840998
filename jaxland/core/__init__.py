"""Pure functions under jit and vmap. Imports jax, numpy, optax and itself only."""
