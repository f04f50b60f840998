"""A command's options as one dataclass: the API's keywords, what ``help()`` shows and the command line's flags.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Options:
...     seed: int = option(0, "Of every random choice.")
>>> help_texts(Options)
{'seed': 'Of every random choice.'}
>>> chosen(Options, None, {"seed": 3})
Options(seed=3)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields, replace
from inspect import Parameter, signature
from typing import Any, TypeVar, get_type_hints

from jaxland.errors import ArgumentError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def option(default: T, help: str) -> T:
    """A field with its help text."""
    return field(default=default, metadata={"help": help})


def help_texts(options: type) -> dict[str, str]:
    """What each field of an options dataclass means: one or two sentences by name."""
    return {f.name: f.metadata["help"] for f in fields(options)}


def chosen(options: type[T], given: T | None, changes: Mapping[str, Any]) -> T:
    """Options with some fields changed.

    Raises:
        ArgumentError: a change is of no field, or its value makes no sense.
    """
    known = list(help_texts(options))
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ArgumentError(f"unknown option {unknown[0]!r}; choose from {', '.join(known)}")
    base: Any = options() if given is None else given
    return replace(base, **changes)


def spelled_out(options: type) -> Callable[[F], F]:
    """Decorator: the signature of a function that ends in ``**options: Unpack[...]`` names every option."""
    hints = get_type_hints(options)
    every = [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(options)
    ]

    def decorate(function: F) -> F:
        plain = signature(function)
        kept = [p for p in plain.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        function.__signature__ = plain.replace(parameters=[*kept, *every])  # type: ignore[attr-defined]
        return function

    return decorate
