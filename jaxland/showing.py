"""How records show themselves: one line in a terminal, a small table in a notebook; arrays by their shapes.

>>> from dataclasses import dataclass
>>> import numpy as np
>>> @dataclass(frozen=True, eq=False)
... class Found:
...     energies: np.ndarray
...     name: str = "lowest"
...     __repr__ = brief
>>> Found(np.zeros((3, 2)))
Found(energies=float64[3, 2], name='lowest')
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

LONGEST = 60


def shown(value: object) -> str:
    """A value in at most a few words."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        if shape == ():
            return str(value)
        return f"{dtype}[{', '.join(map(str, shape))}]"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}(...)"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    text = repr(value)
    if isinstance(value, tuple | list | dict) and len(text) > LONGEST:
        return f"{type(value).__name__} of {len(value)}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _facts(record: Any) -> Iterator[tuple[str, str]]:
    for f in fields(record):
        value = getattr(record, f.name)
        if f.repr and value is not None:
            yield f.name, shown(value)


def brief(record: Any) -> str:
    """``__repr__`` of a record: arrays by shape, nested records by name, what is None left out."""
    return f"{type(record).__name__}({', '.join(f'{name}={value}' for name, value in _facts(record))})"


def table(record: Any) -> str:
    """``_repr_html_`` of a record: a table of its fields."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in _facts(record)
    )
    return f"<p><b>{type(record).__name__}</b></p><table>{rows}</table>"
