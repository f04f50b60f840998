"""Models of others from the shell: ``module:function`` builds one, its weights come from a checkpoint."""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError, DataError, DependencyError, ProblemError
from jaxland.models.adapters import from_equinox, from_function, from_linen, from_nnx
from jaxland.models.model import Model, PyTree

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
Arrays = Mapping[str, np.ndarray]


def is_reference(text: str) -> bool:
    """Whether a text reads module:function."""
    return _REFERENCE.fullmatch(text) is not None


def built(reference: str, weights: Path | None = None) -> tuple[Model, dict[str, Any]]:
    """The model that a function builds, with the weights of a checkpoint, and what it says of its data.

    Args:
        reference: ``module:function``; the module is looked for in the working directory too. The function takes no
            arguments and returns a model (a jaxland ``Model``, a Flax nnx module, a linen module with its variables,
            an Equinox module, a PyTorch module, or ``apply`` with its parameters), and after it, where it likes, a
            dict of facts: features, classes, centre, scale, target, loss, l2, shape.
        weights: an orbax directory, or a file .safetensors, .msgpack, .pt or .pth; None: those the function set.

    Raises:
        ArgumentError: no such module or function, or it fails. ProblemError: what it returns is no model.
        DataError: weights that are missing, damaged or do not fit. DependencyError: a library is not installed.
    """
    found, facts = _called(reference)
    if weights is not None and not weights.exists():
        raise DataError(f"weights {weights} do not exist")
    model = _adapted(found, weights, reference)
    bad = [name for name, leaf in _named(model.params).items() if not np.isfinite(np.asarray(leaf, float)).all()]
    if bad:
        raise DataError(f"the weights of {reference} are not all finite: {bad[0]}")
    name = str(facts.get("name") or model.name)
    return replace(model, apply=_promoting(model.apply), name=name), facts


def _promoting(apply: Callable[[PyTree, Any], jax.Array]) -> Callable[[PyTree, Any], jax.Array]:
    """A module's arithmetic mixes precisions as its author meant it, whatever the caller forbids elsewhere."""

    def wrapped(params: PyTree, x: Any) -> jax.Array:
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return apply(params, x)

    return wrapped


def _called(reference: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the function returns, as a tuple, and its facts."""
    if not is_reference(reference):
        raise ArgumentError(f"{reference!r} is no module:function, such as mymodels:credit")
    module, _, name = reference.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ArgumentError(f"{module} cannot be imported from {Path.cwd()}: {error}") from error
    except AttributeError as error:
        raise ArgumentError(f"{module} has no function {name!r}") from error
    if not callable(function):
        raise ArgumentError(f"{reference} is no function, but {type(function).__name__}")
    try:
        made = function()
    except Exception as error:  # the user's own code
        raise ArgumentError(f"{reference} fails: {type(error).__name__}: {error}") from error
    parts = made if isinstance(made, tuple) and not hasattr(made, "_fields") else (made,)
    if len(parts) > 1 and isinstance(parts[-1], dict) and not ("params" in parts[-1] and len(parts) == 2):
        return parts[:-1], dict(parts[-1])
    return parts, {}


def _adapted(parts: tuple[Any, ...], weights: Path | None, reference: str) -> Model:
    first = parts[0]
    if isinstance(first, Model):
        return first if weights is None else replace(first, params=_fitted(first.params, weights))
    library = _library(first)
    if library == "torch":
        from jaxland.models.torch_modules import from_torch, load_state

        if weights is not None:
            load_state(first, weights)
        return from_torch(first)
    if library == "nnx":
        whole = first if weights is None else _nnx_restored(first, weights)
        whole.eval()
        return from_nnx(whole)
    if library == "linen":
        if len(parts) < 2:
            raise ProblemError(f"{reference} must return a linen module with its variables: module, module.init(...)")
        return from_linen(first, parts[1] if weights is None else _fitted(parts[1], weights))
    if library == "equinox":
        if weights is not None:
            raise ProblemError(f"{reference}: load the weights of an Equinox module in the function that builds it")
        return from_equinox(first)
    if callable(first) and len(parts) == 2:
        return from_function(first, parts[1] if weights is None else _fitted(parts[1], weights))
    raise ProblemError(f"{reference} returns {type(first).__name__}, which is no model that is known here")


def _library(module: object) -> str:
    """Whose module it is, without importing libraries that are not there."""
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(module).__mro__}
    names = {
        "torch.nn.modules.module.Module": "torch",
        "flax.nnx.module.Module": "nnx",
        "flax.linen.module.Module": "linen",
        "equinox._module._module.Module": "equinox",
        "equinox._module.Module": "equinox",
    }
    return next((library for base, library in names.items() if base in bases), "")


def _nnx_restored(module: Any, weights: Path) -> Any:
    from flax import nnx

    # States of random streams are not among the weights of most checkpoints.
    graph, kept, *streams = nnx.split(module, lambda _, leaf: not isinstance(leaf, nnx.RngState), ...)
    nnx.replace_by_pure_dict(kept, _fitted(nnx.to_pure_dict(kept), weights))
    return nnx.merge(graph, kept, *streams)


def _fitted(template: PyTree, weights: Path) -> PyTree:
    """The template's tree with the arrays of a checkpoint.

    Raises:
        DataError: names or shapes differ.
    """
    found, wanted = _read(weights, template), _named(template)
    by_name = _matched(found, wanted, weights)
    leaves, structure = jax.tree.flatten(template)
    out = []
    for leaf, (name, _) in zip(leaves, wanted.items()):
        value = by_name[name]
        if np.shape(value) != np.shape(leaf):
            raise DataError(f"{weights.name}: {name} has shape {np.shape(value)}, the model's {np.shape(leaf)}")
        out.append(jnp.asarray(value, jnp.result_type(leaf)))
    return jax.tree.unflatten(structure, out)


def _named(tree: PyTree) -> dict[str, Any]:
    """Leaves by dotted name."""
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in pairs}


def _matched(found: Arrays, wanted: Mapping[str, Any], weights: Path) -> Arrays:
    """Arrays under the names the model uses; a leading ``params.`` and a trailing ``.value`` make no difference."""

    def plain(name: str) -> str:
        return name.replace("/", ".").removeprefix("params.").removesuffix(".value").removesuffix(".raw_value")

    there = {plain(name): value for name, value in found.items()}
    lacking = [name for name in wanted if plain(name) not in there]
    if lacking:
        raise DataError(
            f"{weights.name} lacks {len(lacking)} of the model's {len(wanted)} arrays, such as {lacking[0]}; it "
            f"holds {', '.join(list(there)[:8])}"
        )
    return {name: there[plain(name)] for name in wanted}


def _read(weights: Path, template: PyTree) -> Arrays:
    """Arrays of a checkpoint by dotted name."""
    if weights.is_dir():
        return _orbax(weights)
    readers: dict[str, Callable[[Path], Arrays]] = {".safetensors": _safetensors, ".msgpack": _msgpack}
    if weights.suffix not in readers:
        raise ArgumentError(
            f"{weights.name}: weights are an orbax directory, .safetensors, .msgpack, or .pt of a PyTorch module"
        )
    try:
        return readers[weights.suffix](weights)
    except DependencyError:
        raise
    except Exception as error:  # whatever the library says of bytes that are no such file
        raise DataError(f"{weights.name} is not a readable {weights.suffix} file ({error})") from error


def _safetensors(path: Path) -> Arrays:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise DependencyError.of("safetensors", "checkpoints") from error
    return load_file(path)


def _msgpack(path: Path) -> Arrays:
    from flax.serialization import msgpack_restore

    return _named(msgpack_restore(path.read_bytes()))


def _orbax(folder: Path) -> Arrays:
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise DependencyError.of("orbax", "checkpoints") from error
    place = folder.resolve()
    steps = sorted((int(p.name), p) for p in place.iterdir() if p.is_dir() and p.name.isdigit())
    if steps and not (place / "_METADATA").exists():
        place = steps[-1][1]
    if (place / "default").is_dir():
        place = place / "default"
    try:
        with warnings.catch_warnings():
            # That the devices are those of the checkpoint's writer makes no difference to numbers taken to the host.
            warnings.simplefilter("ignore", UserWarning)
            restored = ocp.PyTreeCheckpointer().restore(place)
    except Exception as error:  # whatever orbax says of a folder that is no checkpoint
        raise DataError(f"{folder} is not a readable orbax checkpoint ({str(error).splitlines()[0]})") from error
    return {name: np.asarray(leaf) for name, leaf in _named(restored).items() if not _is_key(leaf)}


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
