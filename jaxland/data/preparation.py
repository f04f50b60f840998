"""What a model wants of its data: which columns, how they are coded and scaled, and which rows it has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxland.data.columns import class_words, codes_of, words_of
from jaxland.data.prepared import Prepared
from jaxland.data.reading import Table, near
from jaxland.data.recipe import Scaling, fills, grouped
from jaxland.data.seen import Seen
from jaxland.errors import DataError
from jaxland.showing import brief, table

if TYPE_CHECKING:
    import pandas as pd

    from jaxland.data.dataset import Dataset
    from jaxland.data.recipe import Split


@dataclass(frozen=True, eq=False)
class Preparation:
    """How a model wants its data; kept in its file.

    Attributes:
        features: names, in the model's order; None where it does not say: those of the data.
        sources: the column each feature comes from; empty where it does not say.
        levels: values of each column that is one-hot coded, in the order of its features (of two levels, the second
            is the feature).
        fill: what stands for a missing value, [d] in original units; None: missing values are refused.
        classes: names, in the order of the outputs; empty where it does not say, or for regression.
        target, task: of the table it was trained on.
        scaling: the map it was trained behind; None where the data are given as they are.
        target_scaling: of the targets of a regression; the model's outputs are in these units.
        shape: of one input, where it is no list of features.
        seen: the rows that trained and tested it, where known.
    """

    features: tuple[str, ...] | None = None
    sources: tuple[str, ...] = ()
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fill: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    target: str | None = None
    task: str | None = None
    scaling: Scaling | None = None
    target_scaling: Scaling | None = None
    shape: tuple[int, ...] | None = None
    seen: Seen | None = None

    __repr__ = brief
    _repr_html_ = table

    @classmethod
    def of_split(cls, whole: Dataset, split: Split) -> Preparation:
        """Of a model trained on ``split.train``, where ``split = whole.split(...)``."""
        train = split.train
        return cls(
            features=train.features,
            sources=train.sources,
            levels=whole.levels,
            fill=None if whole.imputed is None else fills(whole, split.train_rows),
            classes=train.classes,
            target=train.target,
            task=train.task,
            scaling=train.scaling,
            target_scaling=train.target_scaling,
            seen=Seen.of(_unfilled(whole), split.train_rows, split.test_rows),
        )

    @classmethod
    def of_model(cls, facts: Mapping[str, Any]) -> Preparation:
        """From what was saved beside a model (``jaxland.models.load``), or said by who built it."""

        def listed(key: str) -> tuple[str, ...]:
            found = facts.get(key)
            return tuple(map(str, found)) if isinstance(found, Sequence) and not isinstance(found, str) else ()

        def scaling(prefix: str) -> Scaling | None:
            centre, scale = (facts.get(prefix + key) for key in ("centre", "scale"))
            if centre is None or scale is None:
                return None
            kind = str(facts.get(prefix + "scaled", "standardise"))
            return Scaling(kind, np.asarray(centre, float), np.asarray(scale, float))

        fill, shape = (facts.get(key) for key in ("fill", "shape"))
        marks = {name: facts.get(f"seen_{name}") for name in ("train_at", "test_at", "train", "test")}
        known = all(isinstance(value, np.ndarray) for value in marks.values())
        return cls(
            features=listed("features") or None,
            sources=listed("sources"),
            levels={str(c): tuple(map(str, v)) for c, v in (facts.get("levels") or {}).items()},
            fill=None if fill is None else np.asarray(fill, float),
            classes=listed("classes"),
            target=facts.get("target"),
            task=facts.get("task"),
            scaling=scaling(""),
            target_scaling=scaling("target_"),
            shape=None if shape is None else tuple(int(n) for n in shape),
            seen=Seen(**{name: np.asarray(value) for name, value in marks.items()}) if known else None,
        )

    def facts(self) -> dict[str, Any]:
        """What ``of_model`` reads; plain values and arrays."""
        scaling, targets = self.scaling, self.target_scaling
        scaled = (
            {}
            if targets is None
            else {
                "target_centre": targets.centre.tolist(),
                "target_scale": targets.scale.tolist(),
                "target_scaled": targets.kind,
            }
        )
        return {
            **scaled,
            "features": None if self.features is None else list(self.features),
            "sources": list(self.sources),
            "levels": {column: list(values) for column, values in self.levels.items()},
            "fill": None if self.fill is None else self.fill.tolist(),
            "classes": list(self.classes),
            "target": self.target,
            "task": self.task,
            "centre": None if scaling is None else scaling.centre.tolist(),
            "scale": None if scaling is None else scaling.scale.tolist(),
            "scaled": None if scaling is None else scaling.kind,
            **({} if self.shape is None else {"shape": list(self.shape)}),
            **({} if self.seen is None else self.seen.to_arrays()),
        }

    @property
    def is_complete(self) -> bool:
        """Whether a table can be read by this alone."""
        return self.features is not None and len(self.sources) == len(self.features)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns the features come from, each once, in order; empty where they are not known."""
        return grouped(self.sources or self.features or ())[0]

    def groups(self) -> np.ndarray:
        """Number of each feature's column in ``columns``, int [d]."""
        return grouped(self.sources or self.features or ())[1]

    def describe(self) -> list[str]:
        """What the model's file says of its data, a sentence each."""
        told = []
        if self.features is not None:
            what = f"{len(self.features)} features"
            if len(self.columns) != len(self.features):
                what += f" from {len(self.columns)} columns"
            scaled = "" if self.scaling is None else f", scaled as in training ({self.scaling.kind})"
            told.append(f"the model's file brings {what}{scaled}")
        if self.target_scaling is not None:
            centre, scale = float(self.target_scaling.centre[0]), float(self.target_scaling.scale[0])
            told.append(
                f"outputs and targets are scaled as in training, ({self.target or 'target'} - {centre:.6g}) / "
                f"{scale:.6g}"
            )
        if self.seen is not None:
            told.append(
                f"it knows its {len(self.seen.train):,} training rows and {len(self.seen.test):,} kept for testing"
            )
        return told

    def factors(self, prepared: Prepared) -> pd.DataFrame:
        """The columns of prepared rows in original units, levels and classes by name."""
        import pandas as pd

        raw = prepared.raw.reshape(prepared.n, -1)
        names = prepared.columns or tuple(f"x{k + 1}" for k in range(raw.shape[1]))
        whole = self if len(self.groups()) == raw.shape[1] else replace(self, features=names, sources=())
        groups, out = whole.groups(), {}
        for k, column in enumerate(names):
            block = raw[:, groups == k]
            levels = whole.levels.get(column)
            if levels is None:
                out[column] = block[:, 0]
            else:
                codes = block[:, 0].astype(int) if len(levels) == 2 else block.argmax(1)
                out[column] = np.asarray(levels, object)[codes]
        frame = pd.DataFrame(out)
        if prepared.y is not None and prepared.y.ndim == 1:
            known = np.asarray(prepared.classes, object)
            y = prepared.y if self.target_scaling is None else self.target_scaling.invert(prepared.y[:, None])[:, 0]
            frame[self.target or "target"] = known[y.astype(int)] if len(known) else y
        return frame

    # -- reading ---------------------------------------------------------------------------------------------------

    def of_table(self, table: Table) -> Prepared:
        """A table read as the model's was: nothing is inferred anew.

        Raises:
            DataError: a column that is missing, of another kind, with values the model does not know or lacks.
        """
        assert self.features is not None
        table = replace(table, frame=table.frame.rename(columns=str))
        lacking = [column for column in self.columns if column not in table.frame.columns]
        if lacking:
            raise DataError(
                f"{table.name} lacks {len(lacking)} of the model's {len(self.columns)} columns: "
                f"{', '.join(lacking[:5])}{near(lacking[0], list(table.frame.columns))}"
            )
        blocks = [self._column(table, column) for column in self.columns]
        raw = np.concatenate(blocks, axis=1)
        # Features of one column stand together in the file; the model's order may be another.
        order = np.argsort(np.argsort(self.groups(), kind="stable"), kind="stable")
        others = [c for c in table.frame.columns if c not in self.columns and c != self.target]
        notes = (f"columns the model does not use: {', '.join(map(str, others))}",) if others else ()
        y = self._targets(table)
        done = self._finished(raw[:, order], y, table.name, notes)
        return done if table.lines is None else replace(done, rows=np.asarray(table.lines), called="line")

    def of_dataset(self, data: Dataset) -> Prepared:
        """Checked data in original units, features found by name.

        Raises:
            DataError: features or classes the model does not know, or lacks.
        """
        wanted = data.features if self.features is None else self.features
        lacking = [name for name in wanted if name not in data.features]
        if lacking:
            raise DataError(
                f"{data.name} lacks {len(lacking)} of the model's {len(wanted)} features: {', '.join(lacking[:5])}"
            )
        columns = [data.features.index(name) for name in wanted]
        y = data.y
        if data.task == "classification" and self.classes:
            strange = [name for name in data.classes if name not in self.classes]
            if strange:
                raise DataError(
                    f"the model does not know the class {strange[0]!r} of {data.name}; it knows "
                    f"{', '.join(self.classes)}"
                )
            y = np.array([self.classes.index(name) for name in data.classes])[y]
        raw = _unfilled(data)[:, columns]
        fresh = data.target_scaling is None
        done = self._finished(raw, y, data.name, data.notes, filled=data.x[:, columns], scale_targets=fresh)
        done = replace(
            done,
            columns=self.columns or tuple(wanted),
            classes=self.classes or data.classes,
            rows=data.numbers(),
            called=data.called,
        )
        return done if data.scaling is None else replace(done, x=data.x[:, columns])

    def of_arrays(
        self, x: np.ndarray, y: np.ndarray | None = None, features: Sequence[str] | None = None, name: str = "arrays"
    ) -> Prepared:
        """Inputs x [n, ...] in original units and targets y [n], class numbers or names.

        Raises:
            DataError: values that are not finite numbers, features or classes the model does not know, or lacks.
        """
        x = np.asarray(x)
        if not np.issubdtype(x.dtype, np.number) and x.dtype != bool:
            raise DataError(f"x of {name} must be numbers, got {x.dtype}")
        bad = np.argwhere(~np.isfinite(x))
        if len(bad):
            raise DataError(f"x of {name} has {len(bad)} values that are not finite, the first in row {bad[0][0]}")
        names = features if features is not None or x.ndim != 2 else [f"x{k + 1}" for k in range(x.shape[1])]
        if self.features is not None and x.ndim == 2 and names is not None and set(self.features) <= set(names):
            x = x[:, [list(names).index(feature) for feature in self.features]]
        elif self.features is not None and x[0].size != len(self.features):
            raise DataError(
                f"x of {name} has {x[0].size} numbers a row, the model takes {len(self.features)} features"
            )
        if y is not None:
            y = np.asarray(y).reshape(-1) if np.ndim(y) == 2 and np.shape(y)[1] == 1 else np.asarray(y)
            if len(y) != len(x):
                raise DataError(f"x and y of {name} must have the same number of rows, got {len(x)} and {len(y)}")
            if self.classes:
                import pandas as pd

                y = self._classes(pd.Series(y), name, lambda row: f"row {row}")
        return self._finished(x, y, name, ())

    def _finished(
        self,
        raw: np.ndarray,
        y: np.ndarray | None,
        name: str,
        notes: tuple[str, ...],
        filled: np.ndarray | None = None,
        scale_targets: bool = True,
    ) -> Prepared:
        roles = np.zeros(len(raw), np.int8) if self.seen is None else self.seen.roles(raw.reshape(len(raw), -1))
        if y is not None and self.target_scaling is not None and scale_targets:
            y = self.target_scaling.apply(np.asarray(y, float).reshape(-1, 1))[:, 0]
        whole = raw if filled is None else filled
        if self.fill is not None:
            whole = np.where(np.isnan(raw), self.fill, raw)
        x = whole if self.scaling is None else self.scaling.apply(whole)
        if self.shape is not None:
            if x[0].size != int(np.prod(self.shape)):
                raise DataError(
                    f"{name} has {x[0].size} numbers a row, the model takes {' x '.join(map(str, self.shape))}"
                )
            x = x.reshape(-1, *self.shape)
        return Prepared(
            x=np.ascontiguousarray(x),
            y=y,
            roles=roles,
            rows=np.arange(len(x)),
            called="row",
            raw=whole,
            name=name,
            notes=notes,
            columns=self.columns,
            classes=self.classes,
        )

    def _column(self, table: Table, column: str) -> np.ndarray:
        """Features of one column [n, k], NaN where it is missing."""
        table.check(column)
        series = table.frame[column]
        absent = series.isna().to_numpy()
        if absent.any() and self.fill is None:
            raise DataError(
                f"column {column!r} of {table.name} has {absent.sum()} missing values, the first in "
                f"{table.at(int(absent.argmax()))}; the model was trained without any and does not say what to "
                "put there: remove those rows"
            )
        if column in self.levels:
            return self._coded(table, column, absent)
        from pandas.api.types import is_bool_dtype, is_numeric_dtype

        if not (is_numeric_dtype(series) or is_bool_dtype(series)) and not absent.all():
            row = int((~absent).argmax())
            raise DataError(
                f"column {column!r} of {table.name} holds text, such as {series.iloc[row]!r} in {table.at(row)}; the "
                "model takes numbers there"
            )
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        infinite = np.isinf(values)
        if infinite.any():
            raise DataError(f"column {column!r} of {table.name} is infinite in {table.at(int(infinite.argmax()))}")
        return values[:, None]

    def _coded(self, table: Table, column: str, absent: np.ndarray) -> np.ndarray:
        levels, series = self.levels[column], table.frame[column]
        codes = codes_of(words_of(series[~absent]), levels)
        if (codes < 0).any():
            where = int((codes < 0).argmax())
            row = int(np.flatnonzero(~absent)[where])
            raise DataError(
                f"column {column!r} of {table.name} holds {words_of(series.iloc[[row]])[0]!r} in {table.at(row)}, "
                f"which the model does not know; it knows {', '.join(levels[:20])}"
            )
        block = np.full((len(series), len(levels)), np.nan)
        block[~absent] = np.eye(len(levels))[codes]
        return block[:, 1:] if len(levels) == 2 else block

    def _targets(self, table: Table) -> np.ndarray | None:
        """Targets in the model's terms; None where the table has no such column."""
        if self.target is None or self.target not in table.frame.columns:
            return None
        table.check(self.target)
        series = table.frame[self.target]
        absent = series.isna().to_numpy()
        if absent.any():
            raise DataError(
                f"target {self.target!r} of {table.name} has {absent.sum()} missing values, the first in "
                f"{table.at(int(absent.argmax()))}: remove those rows, or the column where no targets are needed"
            )
        if not self.classes:
            from pandas.api.types import is_numeric_dtype

            if not is_numeric_dtype(series):
                raise DataError(
                    f"target {self.target!r} of {table.name} holds text, such as {str(series.iloc[0])!r}; the model "
                    "was trained on numbers"
                )
            return series.to_numpy(dtype=np.float64)
        return self._classes(series, table.name, table.at)

    def _classes(self, series: pd.Series, name: str, at: Callable[[int], str]) -> np.ndarray:
        """Numbers of the classes [n]."""
        words = class_words(series)
        codes = codes_of(words, self.classes)
        if (codes < 0).any():
            row = int((codes < 0).argmax())
            raise DataError(
                f"the model does not know the class {words[row]!r} in {at(row)} of {name}; it knows "
                f"{', '.join(self.classes)}"
            )
        return codes


def _unfilled(data: Dataset) -> np.ndarray:
    """Features in original units, NaN where they were missing."""
    return data.inputs() if data.imputed is None else np.where(data.imputed, np.nan, data.inputs())
