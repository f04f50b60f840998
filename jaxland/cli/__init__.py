"""The command ``jaxland``: parse, call, print. Each command lives in a module, read when it is asked for."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Annotated, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from jaxland.options import command_line

# The module of each command and its first sentence, in the order of the help page, which reads no module.
COMMANDS = {
    "explore": (
        "explore",
        "Map the loss landscape of a small network trained on a table, and read its conserved weights.",
    ),
    "plan": ("scale", "Write down a search without running it: then start any number of `jaxland work RUN`."),
    "work": (
        "scale",
        "Take part in a search until it is finished. Workers may come and go: the database does not depend on it.",
    ),
    "status": ("scale", "What a run has found so far, how complete it is, and who is working on it."),
    "merge": (
        "scale",
        "Unite independent runs of one problem. In any order, any number of times: the result is the same.",
    ),
    "report": ("explore", "Write the report of what a run has found so far."),
    "thermo": (
        "thermo",
        "Occupation of minima and funnels, heat capacity, rates and paths of a landscape that was explored.",
    ),
    "import": (
        "interchange",
        "Read a PATHSAMPLE database; keep it as landscape.npz, and draw its disconnectivity graph.",
    ),
    "export": ("interchange", "Write a landscape for other programs; the data it was made from are not needed."),
    "hessian": ("hessian", "Which training rows a prediction rests on, how sure it is, and whether it extrapolates."),
    "mi": ("mi", "Mutual information with error bars: latents against factors, or among themselves."),
    "trim": (
        "trim",
        "Attribute a network's output to the columns of a table, or to coefficients of a transform of its inputs.",
    ),
    "doctor": (
        "doctor",
        "Check this installation: versions, devices, float64, and a known wrong-numbers bug of JAX 0.10.2.",
    ),
}


class Commands(TyperGroup):
    """Commands whose modules are imported when they are named."""

    _listing = False

    def get_help(self, ctx: typer.Context) -> str:  # type: ignore[override]
        """The help page, without importing any command."""
        self._listing = True
        page = super().get_help(ctx)
        self._listing = False
        return page

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Names, without importing anything."""
        return list(COMMANDS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> TyperCommand | None:  # type: ignore[override]
        """The command of that name, from its module."""
        if cmd_name not in COMMANDS:
            return None
        module, sentence = COMMANDS[cmd_name]
        if self._listing:
            return TyperCommand(cmd_name, help=sentence)
        part = typer.Typer()
        import_module(f"jaxland.cli.{module}").register(part)
        found = typer.main.get_group(part).get_command(ctx, cmd_name)
        return found if isinstance(found, TyperCommand) else None


app = typer.Typer(
    name="jaxland",
    help="Explains a trained model by the physics of its loss.",
    epilog="Exit codes: 0 done, 1 a check of doctor failed, 2 refused (one sentence on stderr says why), 130 Ctrl-C.",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from jaxland import __version__

        typer.echo(f"jaxland {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    context.with_resource(command_line())


def main() -> None:
    """Entry point: sets float64 and a compilation cache for this process."""
    # XLA takes its own tuning flags (prefer-no-gather) for missing processor features, once per cached program.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # This process is the command's own: float64 and a cache of compiled programs are its choice to make. JAX reads
    # these when it is first imported, which help, versions and completion do without.
    os.environ["JAX_ENABLE_X64"] = "1"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(_cache_home(), "jaxland", "xla")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    run()


def run(arguments: list[str] | None = None) -> None:
    """The command with these arguments (default those of the process); our errors become one line each.

    Raises:
        SystemExit: always; 0 where it did what was asked, 2 where that makes no sense.
    """
    from jaxland.errors import JaxlandError

    try:
        app(arguments)
    except JaxlandError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in _OF_FILES:
            raise
        _fail(f"{error.filename or 'a file'}: {(error.strerror or str(error)).lower()}")


# What a disk or its owner refuses; a pipe that was closed or an interrupt is none of these.
_OF_FILES = tuple(getattr(errno, name) for name in ("ENOSPC", "EROFS", "EACCES", "EPERM", "EDQUOT", "EIO", "EISDIR",
                  "ENOTDIR", "ENAMETOOLONG", "EFBIG") if hasattr(errno, name))  # fmt: skip


def _fail(sentence: str) -> NoReturn:
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print("error:", style="bold red", end=" ")
    console.print(sentence, markup=False)
    sys.exit(2)


def _cache_home() -> str:
    return os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
