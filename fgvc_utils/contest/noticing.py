"""What came, went and changed among a run's images since 01 last read them, kept in `moves.csv`."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from fgvc_utils.contest import copies
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.inventory import inventory_path
from fgvc_utils.contest.moves import (
    CAME,
    CLASS_CAME,
    CLASS_RENAMED,
    CLASS_WENT,
    COLUMNS,
    FILE,
    RELABELLED,
    RENAMED,
    REPLACED,
    REWRITTEN,
    WENT,
    rows_of,
)
from fgvc_utils.core.files import whole_file
from fgvc_utils.core.naming import first_quoted
from fgvc_utils.core.reading import UnreadableFile, read_parquet
from fgvc_utils.core.spreadsheet import escaped

TOLD = {
    CAME: "images came",
    WENT: "images went",
    REPLACED: "files hold another picture; decisions on them no longer count",
    REWRITTEN: "files hold the same picture in another form",
    RENAMED: "images have another id; decisions on them follow",
    RELABELLED: "images came under another label",
    CLASS_CAME: "classes came",
    CLASS_WENT: "classes went",
    CLASS_RENAMED: "classes have another name",
}
# Digits of a digest that tell one content from another.
DIGITS = 16


def note(
    cfg: Shared, listed: pd.DataFrame, inventory: pd.DataFrame, distance: int
) -> list[tuple[str, ...]]:
    """Compare the images with those that the last run of 01 read, and keep what is other.

    To be called before the inventory of that run is replaced.

    Parameters
    ----------
    cfg
        The parameters of 01.
    listed
        All images: columns image_id, path, split and given.
    inventory
        As from `images.take_in`, of the same images.
    distance
        The most bits in which the hashes of one picture in two forms differ.

    Returns
    -------
    list of tuple
        As from `compared`; nothing at the first run.
    """
    now = listed.merge(inventory.drop(columns="path"), on="image_id")
    before = _last_read(cfg)
    if before is None:
        return []
    found = compared(before, now, distance)
    path = cfg.folder / FILE
    earlier = rows_of(path)
    last = earlier[earlier["time"] == earlier["time"].max()]
    # A run that was cut off before it wrote its inventory has noted the same already.
    if found and set(found) != set(map(tuple, last[COLUMNS[1:]].to_numpy())):
        time = datetime.now(UTC).isoformat(timespec="seconds")
        rows = pd.DataFrame([(time, *row) for row in found], columns=COLUMNS)
        with whole_file(path) as temporary:
            pd.concat([earlier, rows]).map(escaped).to_csv(temporary, index=False)
    return found


def _last_read(cfg: Shared) -> pd.DataFrame | None:
    """The images as the last run of 01 read them, with what they came as where that is known.

    A run that was cut off leaves an inventory without a table; a spoilt file says nothing.
    """
    before = _readable(inventory_path(cfg))
    if before is None or not {"image_id", "path", "digest", "look"} <= set(before):
        return None
    came_as = ["image_id", "split", "given"]
    table = _readable(cfg.table_path("01_noise"))
    if table is None or not set(came_as) <= set(table):
        table = pd.DataFrame(columns=came_as)
    return before.merge(table[came_as].astype(object), on="image_id", how="left").fillna(
        {"split": "", "given": ""}
    )


def _readable(path: Path) -> pd.DataFrame | None:
    """A Parquet file; None where it is not there or spoilt."""
    try:
        return read_parquet(path)
    except (FileNotFoundError, UnreadableFile):
        return None


def compared(before: pd.DataFrame, now: pd.DataFrame, distance: int) -> list[tuple[str, ...]]:
    """What is other among images than it was.

    Parameters
    ----------
    before, now
        A row an image: columns image_id, path, split, given, digest and those of `copies.hashes`.
    distance
        The most bits in which the hashes of one picture in two forms differ.

    Returns
    -------
    list of tuple
        The `COLUMNS` but for the time. `before` and `now` are how the picture's digest begins, or
        the ids or labels where these are other.
    """
    before, now = before.set_index("image_id"), now.set_index("image_id")
    both = now.index.intersection(before.index, sort=False)
    old, new = before.loc[both], now.loc[both]
    was, there = old["digest"] != "", new["digest"] != ""
    other = was & there & (old["digest"] != new["digest"])
    came = [*now.index[~now.index.isin(both)], *both[~was & there]]
    went = [*before.index[~before.index.isin(both)], *both[was & ~there]]
    renamed = _renamed(before, now, [*both[other], *came], [*both[other], *went])
    from_there, to_here = set(renamed), set(renamed.values())
    changed = [image for image in both[other] if image not in from_there]
    same = copies.same_picture(old.loc[changed], new.loc[changed], distance)
    found = []
    for image, alike in zip(changed, same, strict=True):
        what = REWRITTEN if alike and image not in to_here else REPLACED
        digests = (before.loc[image, "digest"][:DIGITS], now.loc[image, "digest"][:DIGITS])
        found.append((what, image, now.loc[image, "path"], *digests))
    found += [(RENAMED, new, now.loc[new, "path"], old, new) for old, new in renamed.items()]
    for image in came:
        if image not in to_here:
            row = now.loc[image]
            found.append((CAME, image, row["path"], "", row["digest"][:DIGITS]))
    for image in went:
        if image not in from_there:
            row = before.loc[image]
            found.append((WENT, image, row["path"], row["digest"][:DIGITS], ""))
    were, are = before["given"].to_dict(), now["given"].to_dict()
    moved = from_there | to_here
    pairs = {image: image for image in both if image not in moved} | renamed
    pairs = {old: new for old, new in pairs.items() if were[old] and are[new]}
    found += [
        (RELABELLED, new, now.loc[new, "path"], were[old], are[new])
        for old, new in pairs.items()
        if were[old] != are[new]
    ]
    return found + _classes(were, are, pairs)


def _renamed(
    before: pd.DataFrame, now: pd.DataFrame, arrived: Sequence[str], left: Sequence[str]
) -> dict[str, str]:
    """Old ids → new ids of pictures that have another id, where one alone holds the content."""
    old = before.loc[list(dict.fromkeys(left)), ["digest", "split"]]
    new = now.loc[list(dict.fromkeys(arrived)), ["digest", "split"]]
    old, new = old[old["digest"] != ""], new[new["digest"] != ""]
    old = old[~old["digest"].duplicated(keep=False)]
    new = new[~new["digest"].duplicated(keep=False)]
    here = dict(zip(new["digest"], new.index, strict=True))
    return {
        image: here[row.digest]
        for image, row in zip(old.index, old.itertuples(), strict=True)
        if row.digest in here and row.split in ("", new.loc[here[row.digest], "split"])
    }


def _classes(
    before: dict[str, str], now: dict[str, str], pairs: dict[str, str]
) -> list[tuple[str, ...]]:
    """Classes that came, went, or whose images all came under one name that is new.

    Of image id → label before and now, and of the old and new ids of the images known in both.
    """
    were, are = (set(labels.values()) - {""} for labels in (before, now))
    if not were:
        return []
    new_names: dict[str, set[str]] = {}
    for old, new in pairs.items():
        new_names.setdefault(before[old], set()).add(now[new])
    renamed = {}
    for name in sorted(were - are):
        taken = new_names.get(name, set())
        if len(taken) == 1 and (only := next(iter(taken))) in are - were:
            renamed[name] = only
    found = [(CLASS_RENAMED, "", "", old, new) for old, new in renamed.items()]
    found += [(CLASS_CAME, "", "", "", n) for n in sorted(are - were - set(renamed.values()))]
    return found + [(CLASS_WENT, "", "", n, "") for n in sorted(were - are - set(renamed))]


def told(found: Sequence[tuple[str, ...]]) -> list[str]:
    """What is other, a line a kind."""
    lines = []
    for what, text in TOLD.items():
        names = [row[1] or row[4] or row[3] for row in found if row[0] == what]
        if names:
            lines.append(f"since the last run {len(names)} {text}: {first_quoted(names)}")
    return lines


def counted(found: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """How many of each kind there are, by its name in `moves.csv`."""
    counts = Counter(row[0] for row in found)
    return {what: counts[what] for what in TOLD if counts[what]}
