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

import math
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field, fields, replace
from inspect import Parameter, signature
from numbers import Integral, Real
from typing import Any, TypeVar, get_args, get_type_hints

from jaxland.errors import ArgumentError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
# Whether messages are read on the command line, where options are written otherwise than in Python.
_ON_COMMAND_LINE: ContextVar[bool] = ContextVar("on_command_line", default=False)


@contextmanager
def command_line() -> Iterator[None]:
    """Within it, ``spoken`` writes options as flags."""
    token = _ON_COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _ON_COMMAND_LINE.reset(token)


def on_command_line() -> bool:
    """Whether messages are read there."""
    return _ON_COMMAND_LINE.get()


def spoken(name: str, value: object = None) -> str:
    """An option in a message, in the words of the interface used.

    >>> spoken("missing", "mean"), spoken("target")
    ("missing='mean'", 'target')
    >>> with command_line():
    ...     spoken("missing", "mean"), spoken("max_levels")
    ('--missing mean', '--max-levels')
    """
    if not on_command_line():
        return name if value is None else f"{name}={value!r}"
    flag = f"--{name.replace('_', '-')}"
    return flag if value is None else f"{flag} {shlex.quote(str(value))}"


def option(default: T, help: str) -> T:
    """A field with its help text."""
    return field(default=default, metadata={"help": help})


def help_texts(options: type) -> dict[str, str]:
    """What each field of an options dataclass means: one or two sentences by name."""
    return {f.name: f.metadata["help"] for f in fields(options)}


_KINDS: dict[type, dict[str, tuple[object, ...]]] = {}


def _kinds(options: type) -> dict[str, tuple[object, ...]]:
    """Types each field may have, looked up once for every dataclass."""
    if options not in _KINDS:
        hints = get_type_hints(options)
        _KINDS[options] = {f.name: get_args(hints[f.name]) or (hints[f.name],) for f in fields(options)}
    return _KINDS[options]


def check_fields(
    options: Any,
    *,
    least: Mapping[str, float] | None = None,
    positive: Collection[str] = (),
    choices: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Whether the numbers and words of an options dataclass make sense; None passes where the field may be None.

    Args:
        least: smallest value, by field. positive: fields that must be above 0. choices: words, by field.

    Raises:
        ArgumentError: a whole number or a finite number is something else, too small, or a word is unknown.
    """
    for name, kinds in _kinds(type(options)).items():
        value, allowed = getattr(options, name), {k for k in kinds if k is not type(None)}
        if value is None and type(None) in kinds:
            continue
        if allowed == {int} and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise ArgumentError(f"{spoken(name)} must be a whole number, got {value!r}")
        if allowed == {float} and not (isinstance(value, Real) and math.isfinite(value)):
            raise ArgumentError(f"{spoken(name)} must be a finite number, got {value!r}")
        if allowed in ({int}, {float}) and type(value) not in (int, float):
            # NumPy's numbers are kept as Python's: files and databases take no others.
            value = int(value) if allowed == {int} else float(value)
            object.__setattr__(options, name, value)
        if least is not None and name in least and value < least[name]:
            low = f"be at least {least[name]:g}" if least[name] else "not be negative"
            raise ArgumentError(f"{spoken(name)} must {low}, got {value}")
        if name in positive and not value > 0:
            raise ArgumentError(f"{spoken(name)} must be positive, got {value}")
        if choices is not None and name in choices and value not in choices[name]:
            raise ArgumentError(f"{spoken(name)} must be one of {', '.join(choices[name])}, got {value!r}")


def whole_number(name: str, value: object, least: int = 0) -> int:
    """A whole number of at least so much.

    Raises:
        ArgumentError: it is none.

    >>> whole_number("batch", 8, 1)
    8
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ArgumentError(f"{spoken(name)} must be a whole number, got {value!r}")
    if value < least:
        low = f"be at least {least}" if least else "not be negative"
        raise ArgumentError(f"{spoken(name)} must {low}, got {value}")
    return int(value)


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
