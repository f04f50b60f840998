"""``jaxland trim``: attribute a saved network to frequencies, wavelets or components of its inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def trim(
        model: Annotated[Path, typer.Argument(help="Network written by jaxland.models.save (model.npz).")],
        data: Annotated[Path, typer.Argument(help="Inputs: CSV of numbers, one row each, or npz with x (and y).")],
        out: Annotated[Path, typer.Option(help="Directory for scores, figures and report.html.")],
        transform: Annotated[
            str, typer.Option(help="identity, rfft, dct, pca:<parts> or a wavelet: haar, db2..db8, sym5.")
        ] = "rfft",
        method: Annotated[
            str, typer.Option(help="ig, cd, deeplift, ablation, kernel_shap, ... (see docs/trim.md).")
        ] = "ig",
        target: Annotated[int | None, typer.Option(help="Output to attribute; default the predicted class.")] = None,
        labels: Annotated[
            str | None, typer.Option(help="Column of true classes (CSV), for knock-out accuracy.")
        ] = None,
        bands: Annotated[int | None, typer.Option(help="Frequency bands; default one per frequency.")] = None,
        baseline: Annotated[str, typer.Option(help="zero or mean.")] = "zero",
        residual: Annotated[str, typer.Option(help="Of a lossy transform: fixed or player.")] = "fixed",
        rows: Annotated[int | None, typer.Option(help="Explain only the first so many inputs.")] = None,
        chunk: Annotated[int | None, typer.Option(help="Most inputs given to the network at once.")] = None,
        quiet: Annotated[bool, typer.Option("--quiet", help="No progress display.")] = False,
    ) -> None:
        """Attribute a network's output to coefficients of a transform of its inputs.

        Writes scores.csv, profile.png, report.html; says how complete the attribution is and tests it on the model.
        """
        from rich.console import Console

        from jaxland import models, trim
        from jaxland.errors import ArgumentError
        from jaxland.report import trim as report

        network, _ = models.load(model)
        x, y = _read(data, labels)
        x, y = x[:rows], None if y is None else y[:rows]
        chosen = _transform(trim, transform, x, bands)
        if baseline not in ("zero", "mean"):
            raise ArgumentError(f"--baseline takes zero or mean, got {baseline!r}")
        console = Console(stderr=True)
        shared: dict[str, Any] = {"background": x} if method in ("gradient_shap", "expected_gradients") else {}
        if baseline == "mean":
            shared |= {"baseline": "mean", "background": x}
        with _progress(console, quiet) as advance:
            result = trim.attribute(
                network,
                x,
                transform=chosen,
                method=method,
                target=target,
                residual=None if chosen.is_exact else residual,
                chunk=chunk,
                progress=advance,
                warn=False,
                **shared,
            )
        deletion, insertion = trim.deletion(result), trim.insertion(result)
        evaluation = trim.sensitivity_n(result) if len(result.labels) > 2 else None
        tables: dict[str, Any] = {"scores": result.to_pandas(), "summary": result.summary()}
        if y is not None:
            tables["knock_out"] = evaluation = trim.knock_out(result, y)
        spectrum = report.power(result)
        page = report.page(result, spectrum=spectrum, deletion=deletion, insertion=insertion, evaluation=evaluation)
        report.write(out, page, {"profile": report.profile(result, spectrum=spectrum), "inputs": report.heat(result)})
        for name, table in tables.items():
            table.to_csv(out / f"{name}.csv", index=False)
        best = result.summary()
        console = Console()
        console.print(
            f"{result.method} on {result.transform}: {len(x)} inputs, {len(result.labels)} players", highlight=False
        )
        for _, row in best.head(5).iterrows():
            console.print(f"  {row['player']:>12}  mean |score| {row['mean |score|']:.4g}", highlight=False)
        areas = f"deletion area {deletion.area:.3f}, insertion area {insertion.area:.3f}"
        gap = (
            ""
            if result.method == "contextual_decomposition"
            else f"largest relative gap {result.relative_gap.max():.2e}; "
        )
        console.print(f"{gap}{areas}", highlight=False)
        for note in result.notes:
            console.print(f"note: {note}", highlight=False)
        console.print(f"written to {out}", highlight=False)


def _read(path: Path, labels: str | None) -> tuple[Any, Any]:
    """Numbers of a CSV (with or without a header) or npz file, and the classes where there are any."""
    import numpy as np
    import pandas as pd

    from jaxland.errors import DataError

    if not path.exists():
        raise DataError(f"data file {path} does not exist")
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            if "x" not in archive:
                raise DataError(f"{path} has no array x, only {', '.join(archive.files)}")
            return archive["x"], archive.get("y")
    first = path.open(encoding="utf-8").readline().split(",")
    header = None if all(_is_number(cell) for cell in first) else 0
    frame = pd.read_csv(path, header=header)
    y = None
    if labels is not None:
        if labels not in frame.columns:
            raise DataError(f"{path} has no column {labels!r}; its columns are {', '.join(map(str, frame.columns))}")
        y = frame.pop(labels).to_numpy()
    text = [str(c) for c in frame.columns if not pd.api.types.is_numeric_dtype(frame[c])]
    if text:
        raise DataError(f"column {text[0]!r} of {path} is not numeric; name the column of classes with --labels")
    missing = frame.isna().to_numpy()
    if missing.any():
        row, column = (int(v) for v in np.argwhere(missing)[0])
        raise DataError(f"{path} has an empty cell in row {row + 1}, column {frame.columns[column]!r}")
    return frame.to_numpy(float), y


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _transform(trim: Any, name: str, x: Any, bands: int | None) -> Any:
    from jaxland.errors import ArgumentError

    shape = x.shape[1:]
    kind, _, count = name.partition(":")
    if kind == "rfft":
        return trim.rfft(shape, bands=bands)
    if bands is not None:
        raise ArgumentError("--bands goes with --transform rfft")
    if kind in ("identity", "dct"):
        return getattr(trim, kind)(shape)
    if kind == "pca":
        if count and not count.isdigit():
            raise ArgumentError(f"pca takes a number of parts, such as pca:8, got {name!r}")
        return trim.pca(x, int(count) if count else None)
    if kind == "haar" or kind.startswith(("db", "sym")):
        return trim.dwt(shape, kind)
    raise ArgumentError(
        f"transform {name!r} is unknown; choose identity, rfft, dct, pca:<parts>, haar, db2..db8 or sym5"
    )


class _progress:
    """A progress bar on stderr, or nothing."""

    def __init__(self, console: Any, quiet: bool) -> None:
        from rich.progress import Progress

        self.bar = None if quiet or not console.is_terminal else Progress(console=console, transient=True)

    def __enter__(self) -> Any:
        if self.bar is None:
            return None
        self.bar.start()
        task = self.bar.add_task("attributing", total=None)
        return lambda done, total: self.bar.update(task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
