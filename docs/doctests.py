"""Examples in docstrings are shown as code: the parser of docstrings takes their ``>>>`` for quotations."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?m)^(>>> .*(?:\n(?!\s*$).*)*)")


class Doctests(griffe.Extension):
    """Fences every example, up to the next empty line."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Once for everything that may have a docstring."""
        if obj.docstring is not None and ">>> " in obj.docstring.value:
            obj.docstring.value = EXAMPLE.sub(r"```python\n\1\n```", obj.docstring.value)
