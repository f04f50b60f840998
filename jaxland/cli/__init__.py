"""The command ``jaxland``: parse, call, print. Each command lives in a module of its own."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

app = typer.Typer(
    name="jaxland",
    help="Explains a trained model by the physics of its loss.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    pass


def _register() -> None:
    from jaxland.cli import doctor, explore, hessian, interchange, mi, scale, thermo, trim

    for module in (explore, scale, thermo, interchange, hessian, mi, trim, doctor):
        module.register(app)


def main() -> None:
    """Entry point: sets float64 and a compilation cache for this process, turns our errors into one line each."""
    # XLA takes its own tuning flags (prefer-no-gather) for missing processor features, once per cached program.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import jax

    # This process is the command's own: float64 and a cache of compiled programs are its choice to make.
    jax.config.update("jax_enable_x64", True)
    config: Any = jax.config
    if config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", os.path.join(_cache_home(), "jaxland", "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    from rich.console import Console

    from jaxland.errors import JaxlandError

    _register()
    try:
        app()
    except JaxlandError as error:
        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print("error:", style="bold red", end=" ")
        console.print(str(error), markup=False)
        sys.exit(2)


def _cache_home() -> str:
    return os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
