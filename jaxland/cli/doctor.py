"""``jaxland doctor``: versions, devices, precision, and whether this JAX computes right numbers."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor() -> None:
        """Check this installation: versions, devices, float64, and a known wrong-numbers bug of JAX 0.10.2."""
        from rich.console import Console

        from jaxland.doctor import checks

        console = Console()
        results = checks()
        for check in results:
            mark = "[green]ok  [/]" if check.ok else "[red]FAIL[/]"
            console.print(f"{mark} {check.name}: {check.detail}", highlight=False)
        if not all(check.ok for check in results):
            raise typer.Exit(1)
