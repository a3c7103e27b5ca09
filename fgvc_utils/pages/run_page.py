"""The page of a run, `outputs/<run>/index.html`: what came in, what came of it, and why.

It is one file that needs neither a server nor a network: photos stand in it as small JPEGs, it
holds no script, and its links lead to files beside it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.answers.forms import first_lines
from fgvc_utils.answers.submission import current_submission
from fgvc_utils.contest.tables import CAUSES
from fgvc_utils.pages import figures, funnel
from fgvc_utils.pages.photos import Photos
from fgvc_utils.pages.rendering import part, write
from fgvc_utils.pages.runs import PAGE, PLACES_TO_LINK, Run

# Photos of a cause and of a class, classes that are shown, and rows of a table that may be long.
OF_CAUSE, OF_CLASS, CLASSES, ROWS = 12, 12, 6, 40
# Lines of the submission in force that are shown, and letters of one.
LINES, LETTERS = 6, 160


def write_page(
    run: Run, named: Sequence[str] = (), to_run: Sequence[str] = (), path: Path | None = None
) -> Path:
    """Write the page of a run, as far as the run has come.

    Parameters
    ----------
    run : Run
        The run.
    named : sequence of str
        The names of the contest's steps, in order; by default those that left something.
    to_run : sequence of str
        The names of those that are still to run.
    path : Path, optional
        The page; by default in the run's folder, where its links lead to.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OSError
        It cannot be written. What cannot be read says so on the page.
    """
    photos, floors = Photos([run]), part(figures.floors, run)
    return write(
        "run.html",
        path or run.folder / PAGE,
        run=run,
        written=figures.in_minutes(datetime.now(UTC)),
        places=part(_places, run),
        steps=part(figures.step_rows, run, named, to_run),
        stamped=part(lambda: len(run.stamps)),
        total=part(lambda: sum(run.seconds.values())),
        came=part(came_in, run),
        funnel=part(funnel.funnel, run),
        last=part(lambda: run.tables[-1] if run.tables else ""),
        left_out=part(_left_out, run),
        by_cause=part(photos_by_cause, run, photos),
        by_class=part(photos_by_class, run, photos),
        ledger=part(figures.ledger_tables, run),
        decisions=part(figures.decision_rows, run),
        models=part(figures.model_rows, run, floors.shown or {}),
        floors=floors,
        spans=figures.spans,
        submissions=part(figures.submission_rows, run),
        answer=part(_first_lines, run),
        rules=part(figures.rules_of, run),
        levels=part(figures.level_rows, run),
        parameters=part(figures.changed_from_defaults, run),
        report=part(_other_figures, run),
        versions=part(figures.versions, run),
        files=part(_files, run),
        rows=ROWS,
    )


def _places(run: Run) -> dict[str, Any]:
    """Where the contest lies, as the latest stamp says."""
    known: dict[str, Any] = {}
    for step in run.stamps:
        known |= {name: run.parameters(step).get(name, "") for name in figures.PLACES}
    return known


def came_in(run: Run) -> dict[str, Any]:
    """What the listing held: images, classes, stored forms, what could not be read.

    Returns
    -------
    dict
        `train`, `test`, `classes`; `smallest`, `median` and `largest` class; `forms`, images by
        stored form; `unreadable`, the first rows of what could not be read with `path` and `error`,
        and `unreadable_count`; `noted`, how many are odd and used all the same; `beside`, files
        that are no images. Empty where no table is there.
    """
    if not run.tables:
        return {}
    table, inventory = run.table(run.tables[0]), run.inventory
    train = table[table["split"] == "train"]
    sizes = train["given"].value_counts()
    broken = inventory[inventory["error"] != ""] if "error" in inventory else inventory[:0]
    forms = inventory["stored_as"].value_counts() if "stored_as" in inventory else pd.Series()
    return {
        "train": len(train),
        "test": len(table) - len(train),
        "classes": len(sizes),
        "smallest": int(sizes.min()) if len(sizes) else 0,
        "median": int(sizes.median()) if len(sizes) else 0,
        "largest": int(sizes.max()) if len(sizes) else 0,
        "forms": {str(name) or "unreadable": int(images) for name, images in forms.items()},
        "unreadable": broken[["path", "error"]].head(ROWS).to_dict("records"),
        "unreadable_count": len(broken),
        "noted": int((inventory["note"] != "").sum()) if "note" in inventory else 0,
        "beside": run.figures("01_noise").get("files_left_out", 0),
    }


def _left_out(run: Run) -> dict[str, Any]:
    """All train images by what became of them, and the classes that lost all of theirs."""
    if not run.tables:
        return {}
    table = run.last_table
    train = table[table["split"] == "train"]
    out = train[train["status"] != "keep"]
    changed = train[(train["status"] == "keep") & (train["cause"] != "")]
    kept = train[train["status"] == "keep"]
    return {
        "train": len(train),
        "kept": len(kept),
        "causes": funnel.causes(out),
        "changed": funnel.causes(changed),
        "emptied": [run.called(c) for c in sorted(set(train["given"]) - set(kept["label"]))],
    }


def photos_by_cause(run: Run, photos: Photos) -> list[dict[str, Any]]:
    """Photos of what was left out and of what stands under another label, some of each cause."""
    if not run.tables:
        return []
    table = run.last_table
    train = table[(table["split"] == "train") & (table["cause"] != "unreadable")]
    fate = funnel.fates(train)
    changed = train[fate != funnel.KEPT]
    shown = []
    for cause, images in changed.groupby("cause", sort=True):
        tiles = []
        for image in funnel.drawn(images.index, OF_CAUSE):
            row = changed.loc[image]
            moved = run.called(row["label"]) if fate[image] == funnel.RELABELLED else ""
            caption = [run.called(row["given"]), f"→ {moved}" if moved else ""]
            tiles.append(photos.of(image, caption, fate[image], f"{row['stage']}: {row['reason']}"))
        meaning = CAUSES.get(cause, "")
        shown.append({"cause": cause, "meaning": meaning, "images": len(images), "photos": tiles})
    return sorted(shown, key=lambda each: (-each["images"], each["cause"]))


def photos_by_class(run: Run, photos: Photos) -> list[dict[str, Any]]:
    """Photos of the classes that changed most, as they came, framed in what became of each."""
    if not run.tables:
        return []
    table = run.last_table
    train = table[(table["split"] == "train") & (table["cause"] != "unreadable")]
    order = [funnel.KEPT, funnel.RELABELLED, funnel.LEFT_OUT]
    shown = []
    for name in funnel.most_changed(train, CLASSES):
        members = train[train["given"] == name]
        fate = funnel.fates(members)
        images = sorted(funnel.drawn(members.index, OF_CLASS), key=lambda i: order.index(fate[i]))
        tiles = []
        for image in images:
            row = members.loc[image]
            caption = [f"→ {run.called(row['label'])}"] if fate[image] == funnel.RELABELLED else []
            caption += [row["cause"]] if fate[image] == funnel.LEFT_OUT else []
            tiles.append(photos.of(image, caption, fate[image], row["reason"]))
        counted = fate.value_counts()
        shown.append(
            {
                "name": run.called(name),
                "images": len(members),
                "photos": tiles,
                "fates": {each: int(counted.get(each, 0)) for each in order},
            }
        )
    return shown


def _first_lines(run: Run) -> list[str]:
    """The first lines of the submission in force, as they stand in it, packed or plain."""
    path = current_submission(run.folder)
    return first_lines(path, LINES, LETTERS).splitlines() if path.is_file() else []


def _other_figures(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """Every figure of the report by section, so that the page lacks none."""
    shown = (figures.RULES, figures.LEVELS)
    return [(name, run.figures(name)) for name in run.report if name not in shown]


def _files(run: Run) -> list[str]:
    """Files of the run that a reader may want, those that are there."""
    found = [name for name in PLACES_TO_LINK if (run.folder / name).is_file()]
    decisions = sorted((run.folder / "decisions").glob("*.csv"))
    return found + [f"decisions/{path.name}" for path in decisions]
