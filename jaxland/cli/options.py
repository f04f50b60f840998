"""From the dataclasses of options that the API takes to the flags of a command: one name, one default, one help text.

A command declares them as parameters; ``spread`` turns every field into an option.

    @app.command()
    @spread
    def explore(source: str, out: Path, settings: SearchSettings = SearchSettings(minima=200)) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import wraps
from inspect import Parameter, Signature, signature
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

F = TypeVar("F", bound=Callable[..., None])


@dataclass(frozen=True)
class Kept:
    """Beside a dataclass of options in ``Annotated``.

    Attributes:
        without: fields that are no flags: the command decides them.
        help: other help texts, by field.
    """

    without: tuple[str, ...] = ()
    help: Mapping[str, str] = field(default_factory=dict)


class Record(NamedTuple):
    """A parameter of a command that is spread: its dataclass, how, and where its defaults come from."""

    kind: type
    kept: Kept
    default: Any

    def options(self) -> dict[str, Parameter]:
        """One parameter per field that the command line may set, by name."""
        hints = get_type_hints(self.kind)
        panel = (self.kind.__doc__ or "Options").strip().splitlines()[0].rstrip(".")
        out = {}
        for f in fields(self.kind):
            if f.name not in self.kept.without:
                value = f.default if self.default is None else getattr(self.default, f.name)
                words = self.kept.help.get(f.name, f.metadata["help"])
                out[f.name] = _option(f.name, hints[f.name], value, words, panel)
        return out

    def built(self, values: Mapping[str, Any]) -> object:
        """An instance from what was given on the command line."""
        hints = get_type_hints(self.kind)
        given = {
            name: tuple(values[name] or ()) if get_origin(hints[name]) is tuple else values[name]
            for name in hints
            if name in values and name not in self.kept.without
        }
        return self.kind(**given) if self.default is None else replace(self.default, **given)


def spread(command: F) -> F:
    """Decorator: parameters that are dataclasses become one option per field, named after it.

    A field of one name in several dataclasses is one option that sets them all. Tuples are repeatable options.
    """
    plain = signature(command, eval_str=True)
    records: dict[str, Record] = {}
    shown: dict[str, Parameter] = {}
    for p in plain.parameters.values():
        record = _record(p)
        if record is None:
            shown[p.name] = p
            continue
        records[p.name] = record
        for name, parameter in record.options().items():
            shown.setdefault(name, parameter)

    @wraps(command)
    def called(**values: Any) -> None:
        built = {name: record.built(values) for name, record in records.items()}
        # A field may have the name of the parameter that holds another record.
        own = {name: values[name] for name in plain.parameters if name not in records}
        command(**own, **built)

    order = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in shown.values()]
    called.__signature__ = Signature(order)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in order}
    return called  # type: ignore[return-value]


def _record(parameter: Parameter) -> Record | None:
    annotation, kept = parameter.annotation, Kept()
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        kept = next((r for r in rest if isinstance(r, Kept)), kept)
    if not (isinstance(annotation, type) and is_dataclass(annotation)):
        return None
    return Record(annotation, kept, None if parameter.default is Parameter.empty else parameter.default)


def _option(name: str, kind: Any, default: Any, help: str, panel: str) -> Parameter:
    """An option as typer takes it: None for none, lists for tuples, a plain flag for a switch that is off."""
    flags = [f"--{name.replace('_', '-')}"] if kind is bool and default is False else []
    if get_origin(kind) is tuple:
        kind, default = list[get_args(kind)[0]] | None, list(default) or None  # type: ignore[misc]
        help = f"{help.rstrip('.')}; repeatable."
    elif get_origin(kind) in (Union, UnionType) and str in get_args(kind):
        # Text stands for itself beside other types that only Python can give.
        kind = str | None if type(None) in get_args(kind) else str
    info = typer.Option(*flags, help=help, rich_help_panel=panel)
    empty = Parameter.empty if default is MISSING else default
    return Parameter(name, Parameter.KEYWORD_ONLY, default=empty, annotation=Annotated[kind, info])
