"""The page that compares two runs: one file without script, server or network, as a run's page."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.core.naming import in_line
from fgvc_utils.pages import comparing
from fgvc_utils.pages.figures import in_minutes, plain
from fgvc_utils.pages.funnel import drawn
from fgvc_utils.pages.photos import Photos
from fgvc_utils.pages.rendering import Part, part, percent, points, write
from fgvc_utils.pages.runs import Run

# Photos of a kind.
PHOTOS = 24


def compare(one: Run, other: Run) -> dict[str, Part]:
    """Compare two runs, part by part; what cannot be read costs its part and no other.

    Raises
    ------
    comparing.NotComparable
        They share no image, one has no table, or both are one folder.
    """
    comparing.require_one_contest(one, other)
    return {
        "parameters": part(comparing.parameters, one, other),
        "made_with": part(comparing.made_with, one, other),
        "stages": part(comparing.stage_rows, one, other),
        "apart": part(comparing.listed_apart, one, other),
        "pairs": part(comparing.pairs, one, other),
        "answers": part(comparing.answers, one, other),
        "figures": part(comparing.figures, one, other),
        "times": part(comparing.times, one, other),
    }


def write_comparison(one: Run, other: Run, found: dict[str, Part], path: Path) -> Path:
    """Write the page.

    Parameters
    ----------
    one, other : Run
        The runs.
    found : dict of str to Part
        What `compare` found.
    path : Path
        The page.

    Returns
    -------
    Path
        The page.
    """
    photos = Photos([one, other])
    names = called(one, other)
    return write(
        "compare.html",
        path,
        one=one,
        other=other,
        names=names,
        written=in_minutes(datetime.now(UTC)),
        moved=part(moved_images, one, other, photos, names),
        answered=part(_answered, found["answers"].shown, photos, one.called),
        spans=spans,
        **found,
    )


def called(one: Run, other: Run) -> list[str]:
    """What the page calls two runs: their names, with folders above them where these are one."""
    parts = [run.folder.absolute().parts for run in (one, other)]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if names[0] != names[1]:
            break
    return [in_line(name) for name in names]


def moved_images(
    one: Run, other: Run, photos: Photos, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The train images that stand otherwise after the last stage that both runs have, by kind.

    Returns
    -------
    list of dict
        A row a kind: `title`, `images`, how many, and `photos` of some.
    """
    stages = comparing.common_stages(one, other)
    if not stages:
        return []
    found = comparing.sides(one, other, stages[-1])
    kinds = {
        comparing.ONLY_ONE: f"kept in {names[0]}, left out in {names[1]}",
        comparing.ONLY_OTHER: f"left out in {names[0]}, kept in {names[1]}",
        comparing.OTHER_LABEL: "kept in both, under different labels",
    }
    shown = []
    for side, title in kinds.items():
        rows = found[found["side"] == side]
        tiles = [
            _tile(photos, image, rows.loc[image], side, one.called)
            for image in drawn(rows.index, PHOTOS)
        ]
        shown.append({"title": title, "images": len(rows), "photos": tiles})
    return shown


def _tile(
    photos: Photos, image: str, row: pd.Series, side: str, called: Callable[[str], str]
) -> dict[str, Any]:
    said = [row["cause_one"], row["cause_other"]]
    given, *stands = (called(row[column]) for column in ("given", "label_one", "label_other"))
    if side == comparing.OTHER_LABEL:
        caption = [given, f"→ {stands[0]}", f"⇢ {stands[1]}"]
    else:
        out = int(side == comparing.ONLY_ONE)
        caption = [given, said[out]]
        caption += [f"→ {stands[1 - out]}"] if stands[1 - out] != given else []
    title = f"given {given}; {stands[0]} ({said[0] or 'as it came'}), "
    title += f"then {stands[1]} ({said[1] or 'as it came'})"
    return photos.of(image, caption, "other" if side == comparing.OTHER_LABEL else side, title)


def _answered(
    found: dict[str, Any] | None, photos: Photos, called: Callable[[str], str]
) -> dict[str, Any]:
    """The test images with other answers: the most frequent changes of class, and photos."""
    if not found:
        return {}
    differ = found["differ"].map(called)
    changes = differ.groupby(["one", "other"]).size().sort_values(ascending=False, kind="stable")
    tiles = [
        photos.of(image, [differ["one"][image], f"→ {differ['other'][image]}"], "other")
        for image in drawn(differ.index, PHOTOS)
    ]
    rows = [(one, other, int(images)) for (one, other), images in changes.head(12).items()]
    return {"photos": tiles, "changes": rows}


def spans(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """From where to where a scale of differences goes, with 0 in its middle."""
    ends = [abs(row[end]) for row in rows for end in ("low", "high") if row[end] is not None]
    most = max([*ends, 0.05])
    return -most, most


def in_words(one: Run, other: Run, found: dict[str, Part]) -> str:
    """The comparison in a few lines for a terminal."""
    names, lines = called(one, other), []
    if found["parameters"].shown is not None:
        rows = found["parameters"].shown
        named = [f"{' '.join(filter(None, [r['step'], r['name']]))} {_changed(r)}" for r in rows]
        lines.append(
            f"parameters: {len(rows)} differ" + (f": {'; '.join(named[:6])}" if rows else "")
        )
    for row in (found["stages"].shown or [])[-1:]:
        lines.append(
            f"{row['stage']}: {row['one']} and {row['other']} of {row['images']} images kept; "
            f"{row['only_one']} in {names[0]} alone, {row['only_other']} in {names[1]} alone, "
            f"{row['other_label']} under another label"
        )
    for row in found["pairs"].shown or []:
        said = f"{row['name']}: no held-out image in common"
        if row["n"]:
            said = (
                f"{row['name']}: {percent(row['one'])} and {percent(row['other'])}, "
                f"{points(row['difference'])} points ({points(row['low'])} to "
                f"{points(row['high'])}), n = {row['n']}"
            )
        lines.append(said)
    if answers := found["answers"].shown:
        lines.append(f"answers: {len(answers['differ'])} of {answers['images']} test images differ")
    lines += [f"{name}: {each.error}" for name, each in found.items() if each.error]
    return "\n".join(in_line(line) for line in lines)


def _changed(row: dict[str, Any]) -> str:
    """Both values of a parameter; one that is an empty text or list is said to be that."""
    one, other = (str(plain(row[name])) or "(empty)" for name in ("one", "other"))
    return f"{one} → {other}"
