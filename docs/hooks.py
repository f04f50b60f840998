"""What the site takes from elsewhere: the page of commands from their help texts, chapters of the papers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from mkdocs.config.defaults import MkDocsConfig

MARK = "<!-- commands -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The chapters of ``make papers`` stand in the navigation as they are there."""
    chapters = sorted(path.name for path in Path(config.docs_dir).glob("papers/*.md"))
    if chapters and config.nav is not None:
        config.nav.insert(-2, {"The papers made again": [f"papers/{name}" for name in chapters]})
    return config


def on_page_markdown(markdown: str, **_: object) -> str:
    """The commands where a page has the mark."""
    return markdown.replace(MARK, commands()) if MARK in markdown else markdown


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    import typer.main

    from jaxland.cli import app

    group = typer.main.get_group(app)
    context = typer.Context(group)
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return "\n\n".join(_command(name, command) for name, command in found if command is not None)


def _command(name: str, command: click.Command) -> str:
    asked = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
    usage = " ".join(["jaxland", name, *(str(p.name).upper() for p in asked), "[OPTIONS]"])
    lines = [f"## {name}", "", " ".join((command.help or "").split()), "", f"    {usage}", ""]
    rows = [(f"`{str(p.name).upper()}`", _text(getattr(p, "help", "")), "needed") for p in asked]
    rows += [(f"`{' '.join(p.opts)}`", _text(getattr(p, "help", "")), _default(p)) for p in options]
    lines += ["| | | default |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    return "\n".join(lines)


def _text(given: str | None) -> str:
    return " ".join((given or "").split()).replace("|", "\\|").replace("<", "&lt;")


def _default(option: click.Parameter) -> str:
    if option.required:
        return "needed"
    value = option.default
    return "" if callable(value) or value in (None, False, (), []) else f"`{value}`"
