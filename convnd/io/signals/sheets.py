"""Binary tables: Parquet files and Excel workbooks.

Columns have the same meaning as in text tables, see `convnd.io.signals.table`. The first sheet of a
workbook that has numbers is read. A result keeps the columns, times and words of its input.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError
from convnd.io.reading import check_limit, import_optional, translate_errors
from convnd.io.registry import Format
from convnd.io.signals.cells import cell_text, from_json, to_json, typed_cells
from convnd.io.signals.column import Column, name_and_unit
from convnd.io.signals.columns import Layout, columns_of, table_grid
from convnd.io.signals.headers import rate_of, split_header
from convnd.io.signals.limits import check_held, check_samples
from convnd.io.signals.request import Content, Expect, request_arrays
from convnd.io.signals.signal import describe, signal_of
from convnd.io.signals.table import default_header, default_times

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["FORMATS", "decode_excel", "decode_parquet", "read_excel", "read_parquet"]

_LOST = ("start time", "annotations", "gain and baseline", "leads of other rates")
_BLOCK = 2**18  # cells that are sent at once
# Cells that any file may have, each of which becomes a text.
_FREE_CELLS, _MOST_COLUMNS = 2**20, 4096
# Bytes that any workbook may unpack into, and for each byte of its length. Sheets shrink to a
# tenth.
_FREE, _PACKED = 2**21, 24
_INDEX = "__index_level_"  # how pandas names the columns of an index
_LETTERS = 64  # of a cell of Parquet, besides those that the length of the file allows


def read_parquet(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a Parquet file.

    Args:
        path: an existing file.
        max_pixels: largest number of samples over all columns.

    Returns:
        Values ``(1, C, T)``.

    Raises:
        InputFileError: see `convnd.io.signals.table.read_table`.
        DependencyError: pyarrow is missing.
    """
    arrays, fields = request_arrays(path, "Parquet", "a Parquet file", max_pixels)
    with translate_errors(path, "a Parquet file"):
        names = [str(name) for name in fields["names"]]
        is_text = [bool(text) for text in fields["is_text"]]
        cells: list[list[str]] = [[] for _ in names]
        for key, text in arrays.items():
            cells[int(key.partition("/")[0])] += map(str, from_json(text))
        columns = [
            Column(*name_and_unit("" if name.startswith(_INDEX) else name), column)
            for name, column in zip(names, cells, strict=True)
        ]
        if not columns or not columns[0].cells:
            raise InputFileError(
                f"read {path}", expected="rows of numbers", got="none", remedy="check the file"
            )
        # pandas stores an index behind the columns.
        order = sorted(range(len(columns)), key=lambda k: not names[k].startswith(_INDEX))
        return table_grid(
            path,
            [columns[k] for k in order],
            range(1, len(columns[0].cells) + 1),
            named=True,
            text=[(names[k], is_text[k]) for k in order],
            format_name="Parquet",
        )


def decode_parquet(path: Path, max_samples: int, expect_samples: Expect) -> Content:
    """Decode a Parquet file, in a child process.

    Yields:
        Blocks of cells of each column as JSON, by ``column/block``; then ``names``, and the columns
        that hold text.
    """
    parquet = import_optional("pyarrow.parquet", f"read {path}", "tables")
    with translate_errors(path, "a Parquet file"):
        metadata = parquet.read_metadata(path)
        check_limit(path, metadata.num_columns, _MOST_COLUMNS, "columns", "select some")
        # A text that many rows repeat is held once.
        leaves = [metadata.schema.column(k) for k in range(metadata.num_columns)]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        file = parquet.ParquetFile(path, read_dictionary=texts)
        count = file.metadata.num_rows * file.metadata.num_columns
        check_samples(path, count, max_samples)
        check_held(path, count, path.stat().st_size, free=_FREE_CELLS)
        expect_samples(count)
        data = file.read(use_threads=False)
        letters = _FREE + _LETTERS * count + _PACKED * path.stat().st_size
        for number, column in enumerate(data.columns):
            for start in range(0, len(column), _BLOCK):
                cells = _cells(column.slice(start, _BLOCK))
                letters -= sum(map(len, cells))
                if letters < 0:
                    raise ValueError("many more letters than cells")
                yield f"{number}/{start}", to_json(cells), {}
        is_text = [name in texts for name in data.column_names]  # also where it looks like a time
        yield "", None, {"names": data.column_names, "is_text": is_text}


def _cells(column: Any) -> list[str]:
    """The texts of a column, exact to the last digit."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_timestamp(column.type):
        column = pc.strftime(column, format="%Y-%m-%dT%H:%M:%S")
    elif pa.types.is_duration(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_dictionary(column.type):
        return [
            "" if number is None or words[number] is None else cell_text(words[number])
            for chunk in column.chunks
            for words in [chunk.dictionary.to_pylist()]
            for number in chunk.indices.to_pylist()
        ]
    return ["" if value is None else cell_text(value) for value in column.to_pylist()]


def _write_parquet(path: Path, grid: Grid, **_: object) -> None:
    import numpy as np

    pa = import_optional("pyarrow", f"write {path.name}", "tables")
    parquet = import_optional("pyarrow.parquet", f"write {path.name}", "tables")
    layout = signal_of(grid).extra.get("layout") if signal_of(grid).format == "Parquet" else None
    values = grid.values[0].detach().cpu().double().numpy()
    if not isinstance(layout, Layout) or layout.names != grid.channels:
        names = default_header(grid)
        arrays = [pa.array(row, from_pandas=True) for row in values]
        if grid.units == ("s",):
            arrays.insert(0, pa.array([float(text) for text in default_times(grid)]))
    else:
        names = [name for name, _ in layout.text]
        is_text = [text for _, text in layout.text]
        arrays = []
        for position, cells in enumerate(columns_of(grid, layout, layout.cell)):
            if position in layout.leads:
                numbers = np.array([float(cell or "nan") for cell in cells])
                arrays.append(pa.array(numbers, from_pandas=True))
            elif is_text[position]:
                arrays.append(pa.array([cell or None for cell in cells], pa.string()))
            else:
                arrays.append(pa.array(typed_cells(cells)))
    parquet.write_table(pa.table(arrays, names=list(names)), path)


def read_excel(path: Path, *, max_pixels: int | None = None) -> Grid:
    """Read a workbook.

    Args:
        path: an existing ``.xlsx`` or ``.xlsm`` file.
        max_pixels: largest number of samples over all columns.

    Returns:
        Values ``(1, C, T)``.

    Raises:
        InputFileError: see `convnd.io.signals.table.read_table`.
        DependencyError: openpyxl is missing.
    """
    arrays, fields = request_arrays(path, "Excel", "an Excel workbook", max_pixels)
    with translate_errors(path, "an Excel workbook"):
        rows = [
            (int(number), list(map(str, cells)))
            for text in arrays.values()
            for number, cells in from_json(text)
        ]
        used = max((k + 1 for _, cells in rows for k, cell in enumerate(cells) if cell), default=0)
        rows = [(number, (cells + [""] * used)[:used]) for number, cells in rows]
        table = split_header(path, rows)
        preamble = [cells for number, cells in rows if number < table.lines[0]]
        grid = table_grid(
            path,
            table.columns,
            table.lines,
            named=table.named,
            text=(preamble, str(fields["title"])),
            rate=rate_of([" ".join(cells) for cells in preamble]),
            format_name="Excel",
        )
        other_sheets = ", ".join(map(str, fields["others"]))
        if not other_sheets:
            return grid
        remark = f"has sheets {other_sheets}, too, which are not read"
        return describe(grid, remarks=(*signal_of(grid).remarks, remark))


def decode_excel(path: Path, max_samples: int, _expect: Expect) -> Content:
    """Decode the first sheet of a workbook that is not empty, in a child process.

    Yields:
        Blocks of rows as JSON, number and cells of each; then ``title``, the name of the sheet, and
        ``others``, the names of further sheets.
    """
    openpyxl = import_optional("openpyxl", f"read {path}", "tables")
    with translate_errors(path, "an Excel workbook"):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        limit = _FREE + _PACKED * path.stat().st_size
        check_limit(path, unpacked, limit, "bytes unpacked", "save it as .csv")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            for sheet in book.worksheets:
                is_empty = True
                for block in _blocks(path, sheet, max_samples):
                    yield str(block[0][0]), to_json(block), {}
                    is_empty = False
                if not is_empty:
                    break
            other_sheets = [name for name in book.sheetnames if name != sheet.title]
        finally:
            book.close()
        yield "", None, {"title": sheet.title, "others": other_sheets}


def _blocks(path: Path, sheet: Any, max_samples: int) -> Iterator[list[tuple[int, list[str]]]]:
    """Yield number and texts of the rows of a sheet that are not empty, in blocks."""
    rows: list[tuple[int, list[str]]] = []
    count = cells_in_block = 0
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = ["" if value is None else cell_text(value) for value in values]
        count += len(cells)
        check_samples(path, count, max_samples)
        check_held(path, count, path.stat().st_size, free=_FREE_CELLS)
        if any(cells):
            rows.append((number, cells))
            cells_in_block += len(cells)
        if cells_in_block > _BLOCK:
            yield rows
            rows, cells_in_block = [], 0
    if rows:
        yield rows


def _write_excel(path: Path, grid: Grid, **_: object) -> None:
    openpyxl = import_optional("openpyxl", f"write {path.name}", "tables")
    layout = signal_of(grid).extra.get("layout") if signal_of(grid).format == "Excel" else None
    book = openpyxl.Workbook(write_only=True)
    if isinstance(layout, Layout) and layout.names == grid.channels:
        preamble, title = layout.text
    else:
        preamble, title = [default_header(grid)], "Sheet1"
        layout = Layout(grid.channels, tuple(range(len(grid.channels))))
    columns = columns_of(grid, layout, layout.cell)
    if layout.time is None and layout.count == 0 and grid.units == ("s",):
        columns.insert(0, default_times(grid))
    sheet = book.create_sheet(title)
    for row in preamble:
        sheet.append([cell or None for cell in row])
    for row in zip(*map(typed_cells, columns), strict=True):
        sheet.append([None if value == "" or value != value else value for value in row])
    # In memory, because openpyxl leaves an archive open when a disk is full.
    encoded = io.BytesIO()
    book.save(encoded)
    path.write_bytes(_without_moment(encoded))


def _without_moment(book: io.BytesIO) -> bytes:
    """Return a workbook without its time of writing, so that equal grids give equal bytes."""
    encoded = io.BytesIO()
    with zipfile.ZipFile(book) as source, zipfile.ZipFile(encoded, "w") as target:
        for name in source.namelist():
            part = source.read(name)
            if name == "docProps/core.xml":
                part = re.sub(rb"<dcterms:(created|modified)\b.*?</dcterms:\1>", b"", part)
            target.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)
    return encoded.getvalue()


FORMATS = (
    Format(
        name="Parquet",
        suffixes=(".parquet",),
        spatial_dims=1,
        read=read_parquet,
        write=_write_parquet,
        unsupported_metadata=_LOST,
    ),
    Format(
        name="Excel",
        suffixes=(".xlsx",),
        spatial_dims=1,
        read=read_excel,
        write=_write_excel,
        unsupported_metadata=_LOST,
    ),
)
