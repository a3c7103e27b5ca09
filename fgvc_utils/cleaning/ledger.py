"""The ledger of the cleaning rounds, a row a round."""

import time
from collections.abc import Callable

import pandas as pd

from fgvc_utils.contest.config import Shared
from fgvc_utils.core.files import whole_file
from fgvc_utils.core.spreadsheet import escaped, unescaped


def ledger_row(
    number: int, recipe: str, before: pd.Series, now: pd.Series, started: float, **more: object
) -> dict:
    """A row of the ledger.

    Parameters
    ----------
    number
        The round.
    recipe
        How it trained, in short.
    before, now
        The images that were kept before the round and after it, boolean by one index.
    started
        The round's start by `time.monotonic`, in seconds.
    more
        Further columns.
    """
    return {
        "round": number,
        "recipe": recipe,
        "kept": int(now.sum()),
        "returned": int((now & ~before).sum()),
        "left_out": int((~now).sum()),
        "agreement": round(float((now == before).mean()), 4),
        "seconds": round(time.monotonic() - started, 1),
        **more,
    }


def _columns(rounds: list[dict]) -> list[str]:
    """The ledger's columns, also where no round was made."""
    usual = ["round", "recipe", "kept", "returned", "left_out", "agreement", "seconds"]
    return list(dict.fromkeys(["stage", *usual, *(name for row in rounds for name in row)]))


def write_ledger(cfg: Shared, stage: str, rounds: list[dict]) -> pd.DataFrame:
    """Put a stage's rounds into the run's `ledger.csv`; the other stages' rows stay.

    Parameters
    ----------
    cfg
        The stage's parameters, which name the run's folder.
    stage
        The stage; its rows of an earlier run are replaced.
    rounds
        Rows as from `ledger_row`.

    Returns
    -------
    pd.DataFrame
        The stage's rows, without the columns that only other stages have.
    """
    path = cfg.folder / "ledger.csv"
    ledger = pd.DataFrame([{"stage": stage, **row} for row in rounds], columns=_columns(rounds))
    if path.is_file():
        others = _of_text(pd.read_csv(path, dtype={"stage": str}), unescaped)
        ledger = pd.concat([others[others["stage"] != stage], ledger], ignore_index=True)
    ledger = ledger.sort_values("stage", kind="stable")
    with whole_file(path) as temporary:
        _of_text(ledger, escaped).to_csv(temporary, index=False)
    own = ledger[ledger["stage"] == stage].reset_index(drop=True)
    return own[[name for name in own if name in _columns(rounds)]]


def _of_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with its text changed, its numbers as they are."""
    return table.map(lambda value: change(value) if isinstance(value, str) else value)
