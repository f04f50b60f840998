"""Tables that are no text: parquet, feather, Excel, and frames of other libraries."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxland.data.dialect import Dialect, understood
from jaxland.errors import DataError, DependencyError

if TYPE_CHECKING:
    import pandas as pd

# Libraries that read each kind of file: any one of them, and the extra that brings one.
_NEEDS = {
    ".parquet": (("pyarrow", "fastparquet"), "parquet"),
    ".feather": (("pyarrow",), "parquet"),
    ".xlsx": (("openpyxl", "python_calamine"), "excel"),
    ".xlsm": (("openpyxl", "python_calamine"), "excel"),
    ".xls": (("xlrd", "python_calamine"), "excel"),
    ".ods": (("odf", "python_calamine"), "excel"),
}
SUFFIXES = tuple(_NEEDS)


def frame_of_file(path: Path) -> pd.DataFrame:
    """The table of a parquet or feather file, or the first sheet of a workbook.

    Raises:
        DependencyError: the library that reads it is not installed. DataError: it cannot be read.
    """
    import pandas as pd

    suffix = path.suffix.lower()
    libraries, extra = _NEEDS[suffix]
    if not any(find_spec(library) for library in libraries):
        raise DependencyError(f"{path.name}: {libraries[0]} is not installed: pip install 'jaxland[{extra}]'")
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        if suffix == ".feather":
            return pd.read_feather(path)
        engine = "calamine" if find_spec("python_calamine") else None
        sheets = pd.read_excel(path, sheet_name=None, engine=engine)
    except Exception as error:  # whatever these libraries say of bytes that are no such file
        raise DataError(f"{path.name} is not a readable {suffix} file ({str(error).splitlines()[0]})") from error
    full = {name: frame for name, frame in sheets.items() if not frame.empty}
    if not full:
        raise DataError(f"{path.name} has a header but no rows")
    if len(full) > 1:
        raise DataError(
            f"{path.name} has {len(full)} sheets with rows ({', '.join(full)}): save the one you mean alone"
        )
    return next(iter(full.values()))


def is_frame(source: object) -> bool:
    """Whether something is a table of named columns: of pandas, polars or pyarrow."""
    return (hasattr(source, "columns") and hasattr(source, "iloc")) or _library(source) in ("polars", "pyarrow")


def frame_of(source: Any) -> pd.DataFrame:
    """A DataFrame from one of pandas, polars (lazy or not) or pyarrow."""
    import pandas as pd

    library = _library(source)
    if library == "polars":
        whole = source.collect() if hasattr(source, "collect") else source
        return pd.DataFrame({name: whole[name].to_list() for name in whole.columns})
    return source.to_pandas() if library == "pyarrow" else source


def _library(source: object) -> str:
    return type(source).__module__.partition(".")[0]


def plain(frame: pd.DataFrame, dialect: Dialect) -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """Columns of dates, categories and text as a CSV file would give them; notes and faults per column."""
    import pandas as pd
    from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype, is_timedelta64_dtype

    out, notes, faults = {}, {}, {}
    for name in frame.columns:
        series, column = frame[name], str(name)
        if isinstance(series.dtype, pd.CategoricalDtype):
            series = series.astype(series.cat.categories.dtype if series.cat.categories.dtype != "int64" else object)
        if is_datetime64_any_dtype(series):
            stamps = pd.to_datetime(series, utc=True).dt.tz_localize(None)
            out[column] = ((stamps - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy(float)
            notes[column] = "dates became days since 1970-01-01"
        elif is_timedelta64_dtype(series):
            out[column] = (series / pd.Timedelta(days=1)).to_numpy(float)
            notes[column] = "durations became days"
        elif is_bool_dtype(series) or is_numeric_dtype(series):
            out[column] = series.to_numpy()
        else:
            cells = series.astype(object).where(series.notna(), "")
            strange = next((cell for cell in cells if isinstance(cell, list | tuple | dict | set | np.ndarray)), None)
            if strange is not None:
                faults[column] = f"holds {type(strange).__name__}s, not values"
                out[column] = np.zeros(len(frame))
                continue
            found = understood([cells.map(str).astype(object)], dialect, ",")[0]
            out[column] = found.values
            if found.note:
                notes[column] = found.note
            if found.fault:
                faults[column] = found.fault
    return pd.DataFrame(out), notes, faults
