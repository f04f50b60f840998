"""``jaxland hessian``: what the predictions of a saved model rest on, as tables and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def hessian(
        model: Annotated[Path, typer.Argument(help="Model file written by jaxland (explore writes model.npz).")],
        train: Annotated[str, typer.Argument(help="The training data: CSV or npz file, or built-in data.")],
        out: Annotated[Path, typer.Option(help="Directory for tables, figures and report.html.")],
        test: Annotated[str | None, typer.Option(help="Points to explain; default the training rows.")] = None,
        target: Annotated[str | None, typer.Option(help="Target column; default the one the model names.")] = None,
        kind: Annotated[str, typer.Option(help="hessian or gauss-newton.")] = "hessian",
        damping: Annotated[
            float | None, typer.Option(help="Added to the diagonal; default chosen and swept.")
        ] = None,
        method: Annotated[str, typer.Option(help="auto, explicit, products or gram.")] = "auto",
        of: Annotated[
            str, typer.Option(help="Influence on: loss, predicted_loss, logit, probability, output.")
        ] = "loss",
        points: Annotated[int, typer.Option(help="Most test points.")] = 200,
        top: Annotated[int, typer.Option(help="Training rows listed at each end.")] = 5,
        modes: Annotated[int, typer.Option(help="Eigenvalues listed at each end.")] = 10,
        drop_modes: Annotated[int | None, typer.Option(help="Modes dropped by the extrapolation score.")] = None,
        samples: Annotated[int, typer.Option(help="Resamples; 0 takes the closed form.")] = 0,
        categorical: Annotated[list[str] | None, typer.Option(help="Column of codes to one-hot; repeatable.")] = None,
        drop: Annotated[list[str] | None, typer.Option(help="Column to ignore; repeatable.")] = None,
        missing: Annotated[str, typer.Option(help="Missing values: refuse, mean, median or mode.")] = "refuse",
        loss: Annotated[str | None, typer.Option(help="cross_entropy or squared_error; default the model's.")] = None,
        l2: Annotated[float | None, typer.Option(help="Weight of the sum of squares; default the model's.")] = None,
        seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
        quiet: Annotated[bool, typer.Option("--quiet", help="Print the path of the report only.")] = False,
    ) -> None:
        """Which training rows a prediction rests on, how sure it is, and whether it extrapolates."""
        import warnings

        import numpy as np

        from jaxland import hessian as toolbox
        from jaxland.errors import ArgumentError
        from jaxland.models.model import load
        from jaxland.problem.problem import Problem
        from jaxland.report import figures
        from jaxland.report import hessian as drawing

        if points < 1:
            raise ArgumentError("--points must be at least 1")
        network, facts = load(model)
        options = {"categorical": categorical or None, "drop": drop or None, "missing": missing, "seed": seed}
        rows, queries, classes = tables(network, facts, train, test, target or facts.get("target"), options)
        loss = loss or facts.get("loss") or ("cross_entropy" if classes else "squared_error")
        weight = float(facts.get("l2") or 0.0) if l2 is None else l2
        problem = Problem.from_model(network, *rows, loss=loss, l2=weight)
        queries = tuple(a[:points] for a in queries)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", toolbox.CurvatureWarning)
            explained = toolbox.explain(
                problem,
                queries,
                kind=kind,
                damping=damping,
                method=method,
                of=of,
                top=top,
                modes=modes,
                drop_modes=drop_modes,
                samples=samples,
                seed=seed,
            )
        curvature, found, modes_found = explained.curvature, explained.influence, explained.spectrum
        spread, score = explained.uncertainty, explained.extrapolation
        for note in curvature.warnings:
            typer.echo(f"warning: {note}", err=True)
        out.mkdir(parents=True, exist_ok=True)
        found.to_pandas().to_csv(out / "influence.csv", index=False)
        explained.to_pandas().to_csv(out / "predictions.csv", index=False)
        modes_found.to_pandas().to_csv(out / "spectrum.csv", index=False)
        if found.self_influence is not None:
            found.self_influence.to_pandas().to_csv(out / "self_influence.csv", index=False)
        curvature.save(out / "curvature.npz")
        for stem, figure in (
            ("density", drawing.density_figure(modes_found)),
            ("uncertainty", drawing.uncertainty_figure(spread)),
            ("extrapolation", drawing.extrapolation_figure(score)),
        ):
            figures.save(figure, out / stem)
        predicted = np.asarray(problem.predict(None, queries[0])).argmax(axis=1) if classes else None
        path = drawing.hessian_report(
            curvature, found, spread, score, modes_found, out / "report.html", classes=classes,
            test_y=queries[1] if classes else None, predicted=predicted,
            title=f"Hessian report: {network.name}", subtitle=f"{problem.n} training rows from {train}",
        )  # fmt: skip
        if not quiet:
            typer.echo(
                f"{network.name}: {problem.size} parameters, {problem.n} training rows, {len(queries[0])} points"
            )
            typer.echo(f"{curvature.kind}, {curvature.method}, damping {curvature.damping:.3g}, |grad L| "
                       f"{curvature.gradient_norm:.2g}, lowest eigenvalue {modes_found.lowest[0]:.3g}")  # fmt: skip
        typer.echo(f"report: {path}")


def tables(
    network: Any, facts: dict[str, Any], train: str, test: str | None, target: str | None, options: dict[str, Any]
) -> tuple[tuple[Any, Any], tuple[Any, Any], tuple[str, ...]]:
    """Training and test arrays in the model's own order of features and classes, and its scaling.

    Both files are read as one table, so that columns of codes are coded alike.

    Raises:
        DataError: features or classes the model does not know, or lacks.
    """
    import numpy as np

    from jaxland.data import datasets

    def loaded(source: str) -> Any:
        return datasets.load(source, None if source in datasets.BUILT_IN else target, **options)

    if test is None or test == train:
        data = loaded(train)
        parts = [data, data]
    elif _is_csv(train) and _is_csv(test):
        import pandas as pd

        frames = [_read(train), _read(test)]
        both = datasets.load(pd.concat(frames, ignore_index=True), target, **options)
        parts = [both.take(rows) for rows in np.split(np.arange(both.n), [len(frames[0])])]
    else:
        parts = [loaded(train), loaded(test)]
    (x, y), (xt, yt) = (_as_trained(part, network, facts) for part in parts)
    classes = tuple(facts.get("classes") or parts[0].classes)
    return (x, y), (xt, yt), classes


def _is_csv(path: str) -> bool:
    return path.lower().endswith((".csv", ".csv.gz", ".tsv", ".txt"))


def _read(path: str) -> Any:
    import pandas as pd

    from jaxland.errors import DataError

    try:
        return pd.read_csv(path, sep=None, engine="python")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except Exception as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from error


def _as_trained(data: Any, network: Any, facts: dict[str, Any]) -> tuple[Any, Any]:
    import numpy as np

    from jaxland.errors import DataError

    x, y = data.x, data.y
    wanted = list(facts.get("features") or data.features)
    lacking = [name for name in wanted if name not in data.features]
    if lacking:
        raise DataError(f"the data lack {len(lacking)} features of the model: {', '.join(map(str, lacking[:5]))}")
    x = x[:, [data.features.index(name) for name in wanted]]
    if x.shape[1] != network.sizes[0]:
        raise DataError(f"the model takes {network.sizes[0]} features, the data have {x.shape[1]}")
    if facts.get("centre") is not None and data.scaling is None:
        x = (x - np.asarray(facts["centre"])) / np.asarray(facts["scale"])
    known = facts.get("classes")
    if data.task == "classification" and known:
        strange = [name for name in data.classes if name not in known]
        if strange:
            raise DataError(
                f"the model does not know the class {strange[0]!r}; it knows {', '.join(map(str, known))}"
            )
        y = np.array([known.index(name) for name in data.classes])[y]
    return x, y
