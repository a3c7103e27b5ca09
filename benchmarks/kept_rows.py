"""Rows that a benchmark makes, kept one by one, so that a call that was cut off goes on."""

import json
from collections.abc import Sequence
from pathlib import Path


class KeptRows:
    """The rows of earlier calls and of this one.

    Parameters
    ----------
    folder : Path or None
        Where the file of rows lies, a line of JSON each; it is made where it is not there. None
        keeps them in memory alone.
    name : str
        The benchmark, after which the file is called.
    keys : sequence of str
        The columns that tell one row from another.
    """

    def __init__(self, folder: Path | None, name: str, keys: Sequence[str]) -> None:
        self.file, self.keys, self.rows = None, keys, []
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = folder / f"{name}.jsonl"
            lines = self.file.read_text("utf-8").splitlines() if self.file.is_file() else []
            self.rows = [json.loads(line) for line in lines]

    def done(self) -> set[tuple]:
        """What tells the rows that are there from others, a tuple of `keys` each."""
        return {tuple(row[key] for key in self.keys) for row in self.rows}

    def add(self, row: dict) -> None:
        """Keep one more row, in the file at once."""
        self.rows.append(row)
        if self.file:
            with open(self.file, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
