"""Which files the last run of 01 read, and what came, went and changed since."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fgvc_utils.contest import file_states, listing
from fgvc_utils.contest.file_states import CAME, CHANGED, DOUBT, LOOKED, SAME, STATE, WENT
from fgvc_utils.contest.listings import columns_of
from fgvc_utils.contest.places import data_root
from fgvc_utils.core.files import whole_file
from fgvc_utils.core.naming import first_few
from fgvc_utils.core.reading import UnreadableFile, read_parquet, write_parquet

# What a listing says of a file.
SAID = ["image_id", "split", "given"]


class Changes(NamedTuple):
    """What became of the files since they were read.

    Attributes
    ----------
    came, went, changed
        Paths: files that are new or had not been there, are gone, hold another content.
    moved
        Pairs of paths: before, and now. These are neither in `came` nor in `went`.
    relabelled
        Triples: path, label before, label now; of files whose id or side is another, too.
    unsure
        How many files have other times or inodes, while their content was not compared yet.
    known
        The record with the states as they are now.
    """

    came: list[str]
    went: list[str]
    changed: list[str]
    moved: list[tuple[str, str]]
    relabelled: list[tuple[str, str, str]]
    unsure: int
    known: pd.DataFrame

    def texts(self) -> list[str]:
        """What changed, a text a kind; empty where nothing did."""
        found = []
        for what, paths in (("came", self.came), ("went", self.went), ("changed", self.changed)):
            if paths:
                found.append(f"{len(paths)} {what}, such as {first_few(list(map(repr, paths)), 1)}")
        if self.moved:
            before, now = self.moved[0]
            found.append(f"{len(self.moved)} moved, such as {before!r} to {now!r}")
        if self.relabelled:
            path, before, now = self.relabelled[0]
            labels = f" from {before!r} to {now!r}" if before != now else ""
            found.append(
                f"{len(self.relabelled)} have another label, id or side, such as {path!r}{labels}"
            )
        return [text.replace(" and 0 more", "") for text in found]


def record_path(step: Any) -> Path:
    """Where it is kept what a step that lists images read."""
    return step.stamp.with_name(f"{step.name}-files.parquet")


def look(cfg: Any) -> pd.DataFrame | None:
    """All images with what is said of them and their states now; None where they cannot be listed.

    Parameters
    ----------
    cfg
        The parameters of 01.
    """
    root = data_root(cfg.data_root)
    columns = columns_of(cfg)
    try:
        images = listing.list_all(root, cfg.train, cfg.test, columns, cfg.other_files).images
    except (OSError, ValueError):
        return None
    return images.join(file_states.states(root, images["path"]))


def keep(step: Any, seen: pd.DataFrame | None) -> None:
    """Keep what a step read.

    Parameters
    ----------
    step
        The step, which has written its inventory.
    seen
        As from `look`, taken before the work: a change meanwhile is then a change.
    """
    path = record_path(step)
    path.unlink(missing_ok=True)
    if seen is None:
        return
    inventory = read_parquet(step.cfg.table_path("inventory"))
    digests = pd.Series(inventory["digest"].to_numpy(), inventory["path"].to_numpy())
    digests = digests[~digests.index.duplicated()]
    _write(seen.assign(digest=seen["path"].map(digests).fillna("")), path)


def _write(known: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as temporary:
        write_parquet(known[["path", *SAID, *STATE, LOOKED, "digest"]], temporary)


def changes(step: Any, seconds: float | None = None) -> Changes | None:
    """What came, went and changed since a step read its files.

    Parameters
    ----------
    step
        The step.
    seconds
        How long contents are compared where sizes are the same and times are not; None compares
        all.

    Returns
    -------
    Changes or None
        None where nothing is known of an earlier run, or the files cannot be listed.
    """
    path = record_path(step)
    try:
        known = read_parquet(path) if path.is_file() else None
    except UnreadableFile:
        known = None
    now = None if known is None else look(step.cfg)
    if now is None:
        return None
    root = data_root(step.cfg.data_root)
    both = known.merge(now, on="path", suffixes=("", "_now"), how="inner")
    after = both[[f"{name}_now" for name in [*STATE, LOOKED]]].set_axis([*STATE, LOOKED], axis=1)
    codes = file_states.compared(both, after)
    codes = file_states.settled(root, both, after, codes, seconds)
    new = now[~now["path"].isin(known["path"]) & (now["bytes"] >= 0)]
    old = known[~known["path"].isin(now["path"]) & (known["bytes"] >= 0)]
    moved = _moved(old, new)
    paths = both["path"].to_numpy(object)
    missing = ~now["path"].isin(known["path"]) & (now["bytes"] < 0)
    said = (both[SAID].to_numpy() != both[[f"{name}_now" for name in SAID]].to_numpy()).any(axis=1)
    relabelled = both.loc[said, ["path", "given", "given_now"]].itertuples(index=False, name=None)
    # A file that is listed anew and missing is a row more, though no file came.
    listed = [(path, "", given) for path, given in now.loc[missing, ["path", "given"]].to_numpy()]
    same = codes == SAME
    fresh = both[["path", *SAID, "digest"]].join(after)
    fresh.loc[~same, [*STATE, LOOKED]] = both.loc[~same, [*STATE, LOOKED]]
    gone = known[~known["path"].isin(now["path"]) & (known["bytes"] < 0)]["path"]
    return Changes(
        [*paths[codes == CAME], *new.loc[~new["path"].isin(moved.values()), "path"]],
        [*paths[codes == WENT], *old.loc[~old["path"].isin(moved), "path"], *gone],
        list(paths[codes == CHANGED]),
        list(moved.items()),
        [*relabelled, *listed],
        int((codes == DOUBT).sum()),
        fresh,
    )


def _moved(old: pd.DataFrame, new: pd.DataFrame) -> dict[str, str]:
    """Paths that are gone → the new paths of the same files."""
    key = ["bytes", "mtime_ns", "inode"]
    pairs = old.drop_duplicates(key).merge(new.drop_duplicates(key), on=key)
    return dict(zip(pairs["path_x"], pairs["path_y"], strict=True))


def remember(step: Any) -> None:
    """Keep the states of files that a done step read, so that none is compared again.

    Parameters
    ----------
    step
        The step, of any stage; nothing is kept of one that lists no images.
    """
    path = record_path(step)
    if not path.is_file() or (found := changes(step)) is None or found.texts():
        return
    if not np.array_equal(read_parquet(path)[STATE].to_numpy(), found.known[STATE].to_numpy()):
        _write(found.known, path)
