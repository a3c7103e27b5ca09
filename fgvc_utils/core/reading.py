"""Files that may be cut, of another kind or of another hand: read whole, or refused by name.

Libraries say of a spoilt file what went wrong inside them. A user needs to know which file it is
and what to do about it.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.core.files import read_json


class UnreadableFile(ValueError):
    """A file is not what its reader needs: cut short, of another kind, or spoilt."""


@contextmanager
def refused_by_name(path: Path, kind: str, advice: str) -> Iterator[None]:
    """Turn whatever a library raises on a spoilt file into UnreadableFile with the file's name.

    Parameters
    ----------
    path
        The file that is read in the block.
    kind
        What it should be, such as `a Parquet file`.
    advice
        What to do where it is not.

    Raises
    ------
    UnreadableFile
        In place of what the block raises; a file that is missing or may not be read stays the
        OSError that it is.
    """
    try:
        yield
    except (UnreadableFile, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:
        # Readers of broken files raise almost anything, out of memory among it: a length that a
        # flipped bit made a million times larger is asked for before it is doubted.
        cause = str(error).strip().split("\n")[0][:200]
        raise UnreadableFile(
            f"{path} cannot be read as {kind} ({type(error).__name__}: {cause}); {advice}"
        ) from error


def read_note(
    path: Path, needed: Sequence[str], by_name: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """Read a JSON file of values by name that may be spoilt.

    Parameters
    ----------
    path
        The file, which is there.
    needed
        The names that it must have.
    by_name
        The names whose values, where there are any, hold values by name themselves.

    Returns
    -------
    found : dict
        What it says; empty where it says nothing by name.
    wrong : str
        What is wrong with it, to be read after the file's name; empty where nothing is.
    """
    try:
        found = read_json(path)
    except ValueError:
        return {}, "is not valid JSON"
    if not isinstance(found, dict):
        return {}, "holds no values by name"
    lacks = [name for name in needed if name not in found]
    odd = [name for name in by_name if not isinstance(found.get(name, {}), dict)]
    wrong = [f"lacks {', '.join(lacks)}"] if lacks else []
    wrong += [f"holds no values by name in {', '.join(odd)}"] if odd else []
    return found, " and ".join(wrong)


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a byte order mark.

    Raises
    ------
    UnreadableFile
        Naming the file and the line, where it is in another encoding.
    """
    content = Path(path).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UnreadableFile(
            f"{path} is not UTF-8 text, first in line {line}; save it as UTF-8 (a spreadsheet "
            "offers it as 'CSV UTF-8', an editor as its encoding)"
        ) from None


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file with a header as text: `0012` stays `0012`, `NA` stays `NA`.

    Commas separate the fields, double quotes may be around them. Empty lines count for nothing.

    Raises
    ------
    UnreadableFile
        Naming the file and the line: another encoding, no header, a column that appears twice, a
        line of another width than the header, a quote that is never closed, a NUL byte.
    """
    text = read_text(path)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UnreadableFile(f"{path} is no CSV file: line {line} holds a NUL byte; write it anew")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    try:
        header = next((fields for fields in reader if fields), [])
        _check_header(path, header)
        for fields in reader:
            if fields and len(fields) != len(header):
                raise UnreadableFile(
                    f"{path}: line {reader.line_num} has {len(fields)} fields, the header "
                    f"{len(header)}; put double quotes around a value that holds a comma"
                )
            rows += [fields] if fields else []
    except csv.Error as error:
        raise UnreadableFile(
            f"{path}: {error}, at line {reader.line_num}; is a double quote not closed? Write one "
            "that belongs to a value twice"
        ) from None
    return pd.DataFrame(rows, columns=header, dtype=object)


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not header:
        raise UnreadableFile(f"{path} is empty; its first line must name the columns")
    for name in header:
        if header.count(name) > 1:
            raise UnreadableFile(f"{path}: column {name!r} appears twice; rename one")
    for mark, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise UnreadableFile(
                f"{path}: its columns are separated by {called}, not by commas; save it with commas"
            )


def read_parquet(
    path: Path, advice: str = "write it anew", columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read a Parquet file, or some of its columns.

    Parameters
    ----------
    path
        The file.
    advice
        What to do where it cannot be read, for the message.
    columns
        The columns wanted; all by default.

    Raises
    ------
    UnreadableFile
        Naming the file: it is cut, no Parquet file, or holds text that is none. With the checksums
        that `write_parquet` adds, also where a bit of it changed.
    """
    import pyarrow.parquet

    wanted = None if columns is None else list(columns)
    with refused_by_name(path, "a Parquet file", advice):
        # Opened by this process, so that a folder of Parquet files is none.
        with open(path, "rb") as file:
            read = pyarrow.parquet.read_table(file, columns=wanted, page_checksum_verification=True)
        # Text is not looked at before it is asked for; now its bytes must be UTF-8.
        read.validate(full=True)
        return read.to_pandas()


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as a Parquet file with checksums, which `read_parquet` checks."""
    frame.to_parquet(path, index=False, write_page_checksum=True)
