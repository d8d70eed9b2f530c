"""Columns of a dataset's parquet files as arrays; a file that can't be read is a problem, not an
exception.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_rows(file: Path, wanted: Callable[[str], bool] | None, problems: list[str]) -> Any | None:
    """Return a parquet file's table, or None with a line in `problems`.

    Args:
        file: The file.
        wanted: Says which columns to read; None for all. Images are better left out.
        problems: Gets what is wrong with the file.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    where = "/".join(file.parts[-4:])
    try:
        with parquet.ParquetFile(file) as opened:
            names = [n for n in opened.schema_arrow.names if wanted is None or wanted(n)]
            return opened.read(columns=names)
    except FileNotFoundError:
        problems.append(f"{where} is missing")
    except (arrow.ArrowInvalid, OSError) as error:
        problems.append(
            f"{where} can't be read ({str(error).splitlines()[0]}); a recorder that was killed "
            "leaves files without a footer"
        )
    return None


def column_array(column: Any, shape: Sequence[int]) -> NDArray | None:
    """Return a column as an array (n, *shape), (n,) for single values; None if it does not fit.

    Args:
        column: A pyarrow column: plain, or lists in lists.
        shape: As info.json declares it, for one row.
    """
    import pyarrow as arrow

    flat = column.combine_chunks()
    while isinstance(flat, arrow.ExtensionArray):
        flat = flat.storage
    while isinstance(flat, arrow.ListArray | arrow.LargeListArray | arrow.FixedSizeListArray):
        flat = flat.flatten()
    values = np.asarray(flat.to_numpy(zero_copy_only=False))
    if values.size != len(column) * int(np.prod(shape)) or values.dtype == object:
        return None
    return values.reshape(len(column), *(() if tuple(shape) == (1,) else shape))
