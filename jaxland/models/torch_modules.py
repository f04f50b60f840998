"""PyTorch modules as they are: torch.fx traces one, each of its operations has a counterpart here.

The parameters become a dict by their names in ``state_dict``; buffers (running means and variances) are held fixed.
Modules are taken in eval mode: dropout does nothing, batch normalisation uses its running statistics. Inputs keep
PyTorch's order of axes (images [n, channels, height, width]).
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import DataError, DependencyError, ProblemError
from jaxland.models.model import Model, PyTree
from jaxland.models.torch_layers import CALLS, LAYERS, Weights, called

if TYPE_CHECKING:
    import torch


def from_torch(module: torch.nn.Module) -> Model:
    """A PyTorch module of common layers as a jaxland model, with gradients and Hessians of any order.

    Known: Linear, Conv1d/2d/3d, Embedding, batch, layer and group normalisation, pooling, activations, Flatten,
    Dropout (off), Identity, Sequential; in a module's own ``forward``, what ``CALLS`` names of torch's functions.

    Raises:
        ProblemError: a layer or function that is not known, or control flow that depends on values; the message names
            it.
        DependencyError: PyTorch is not installed.
    """
    graph = _traced(module)
    state = dict(module.state_dict())
    trained = {name for name, _ in module.named_parameters()}
    aliases = _aliases(module)
    fixed = {
        name: _array(value) for name, value in state.items() if name not in trained and aliases.get(name) is None
    }
    # In the order of the module, which is that of torch.nn.utils.parameters_to_vector.
    params = OrderedDict((name, _array(value)) for name, value in module.named_parameters())
    steps = _checked(module, graph)

    def apply(p: PyTree, x: jax.Array) -> jax.Array:
        both = {**fixed, **p}
        whole = both | {name: both[first] for name, first in aliases.items() if first is not None}
        # A module's arithmetic broadcasts and promotes as PyTorch does, whatever the caller forbids elsewhere.
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            return _run(module, steps, whole, jnp.asarray(x))

    return Model(apply, params, name=type(module).__name__)


def load_state(module: torch.nn.Module, weights: Path) -> None:
    """Weights of a file (.pt, .pth of a state_dict, or .safetensors) into a module.

    Raises:
        DataError: not readable, or names and shapes differ.
    """
    torch = _torch()
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise DependencyError.of("safetensors", "checkpoints") from error
    except Exception as error:  # whatever torch says of bytes that are no such file, or of pickled code
        first = str(error).strip().splitlines()[0]
        raise DataError(
            f"{weights.name} holds no state_dict that can be read without running code ({first})"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        first = " ".join(str(error).split())[:300]
        raise DataError(f"{weights.name} does not fit {type(module).__name__}: {first}") from error


def _torch() -> Any:
    try:
        import torch
        import torch.fx
    except ImportError as error:
        raise DependencyError.of("PyTorch", "torch") from error
    return torch


def _array(value: torch.Tensor) -> jax.Array:
    plain = value.detach().cpu()
    if not plain.is_floating_point():
        return jnp.asarray(plain.numpy())
    wide = plain.double().numpy()
    return jnp.asarray(wide if plain.element_size() == 8 else wide.astype(np.float32))


def _aliases(module: torch.nn.Module) -> dict[str, str | None]:
    """For every name of a shared parameter after its first: that first name."""
    first: dict[int, str] = {}
    out: dict[str, str | None] = {}
    for name, value in module.named_parameters(remove_duplicate=False):
        if id(value) in first:
            out[name] = first[id(value)]
        else:
            first[id(value)] = name
    return out


def _traced(module: torch.nn.Module) -> torch.fx.Graph:
    fx = _torch().fx
    module.eval()
    try:
        return fx.symbolic_trace(module).graph
    except Exception as error:  # whatever the module's own code does with a placeholder
        raise ProblemError(
            f"{type(module).__name__} cannot be traced by torch.fx ({str(error).strip().splitlines()[0]}): its "
            "forward must not branch on values"
        ) from error


def _checked(module: Any, graph: Any) -> tuple[Any, ...]:
    """The nodes of a traced module, each of them known.

    Raises:
        ProblemError: one is not.
    """
    unknown = []
    for node in graph.nodes:
        if node.op == "call_module":
            kind = type(module.get_submodule(node.target)).__name__
            if kind not in LAYERS:
                unknown.append(f"layer {kind} ({node.target})")
        elif node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else node.target.__name__
            if called(name) not in CALLS:
                unknown.append(f"{'function' if node.op == 'call_function' else 'method'} {name}")
    if unknown:
        raise ProblemError(
            f"{type(module).__name__} uses {', '.join(sorted(set(unknown))[:4])}, which jaxland does not know; "
            f"layers known: {', '.join(sorted(LAYERS))}"
        )
    inputs = sum(node.op == "placeholder" for node in graph.nodes)
    if inputs != 1:
        raise ProblemError(f"{type(module).__name__} takes {inputs} inputs; one array [n, ...] is known here")
    return tuple(graph.nodes)


def _run(module: Any, steps: tuple[Any, ...], weights: Weights, x: jax.Array) -> Any:
    """Outputs of a traced module."""
    values: dict[Any, Any] = {}

    def of(argument: Any) -> Any:
        if isinstance(argument, slice):
            return slice(of(argument.start), of(argument.stop), of(argument.step))
        if isinstance(argument, tuple | list):
            return type(argument)(of(part) for part in argument)
        if isinstance(argument, dict):
            return {name: of(part) for name, part in argument.items()}
        return values.get(argument, argument) if type(argument).__name__ == "Node" else argument

    for node in steps:
        arguments, keywords = of(tuple(node.args)), of(dict(node.kwargs))
        keywords.pop("inplace", None)
        if node.op == "placeholder":
            values[node] = x
        elif node.op == "get_attr":
            values[node] = weights[node.target]
        elif node.op == "call_module":
            layer = module.get_submodule(node.target)
            own = {
                name.removeprefix(f"{node.target}."): v for name, v in weights.items() if _is_of(name, node.target)
            }
            values[node] = LAYERS[type(layer).__name__](layer, own, *arguments)
        elif node.op == "output":
            return arguments[0]
        else:
            name = node.target if isinstance(node.target, str) else node.target.__name__
            values[node] = CALLS[called(name)](*arguments, **keywords)
    raise ProblemError(f"{type(module).__name__} returns nothing")


def _is_of(name: str, target: str) -> bool:
    return name.rpartition(".")[0] == target
