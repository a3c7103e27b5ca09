"""What galleries and contact sheets show: candidates made of the label table and the inventory.

`check_candidates` says what a table of candidates is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fgvc_utils.contest.decision import with_part
from fgvc_utils.contest.journal import shown_text
from fgvc_utils.core.naming import shortened
from fgvc_utils.looking.class_names import name_of

UNSURE = "unsure"
# So many letters fit under the smallest photo: two scores must never be cut.
WIDEST_SCORES = 15
# So many labels of copies are named in a line.
MOST_LABELS = 12
# So many letters of each.
LONGEST_LABEL = 40
# So many images of a part of a class are noted with a decision on it.
NOTED = 12


def of_images(
    table: pd.DataFrame,
    inventory: pd.DataFrame,
    scores: pd.Series,
    score_name: str,
    *,
    limit: int | None = None,
    given: bool = False,
    raw: Path | None = None,
    suggestions: Mapping[str, list[tuple[str, float]]] | None = None,
    verdict: pd.Series | None = None,
) -> pd.DataFrame:
    """The candidates of a gallery or a sheet: one row an image, in the order of `scores`.

    Parameters
    ----------
    table
        The label table; its rows are found by `image_id`.
    inventory
        Where each image lies in the cache: columns image_id and file.
    scores
        A score for each image, indexed by image_id; NaN for an image without one.
    score_name
        What the score is called in the caption, such as `p(noise)`.
    limit
        At most so many images, from the first on; all by default.
    given
        Show the label that the image came with, not the one in force.
    raw
        The folder of raw images, which zooming in shows; without it those of the cache.
    suggestions
        image_id → (class, score) pairs, the likeliest first, in place of the table's `suggested`.
    verdict
        What a rule decides so far, indexed by image_id; the journal notes it with what was shown.
        Images of one label, verdict and likeliest class are of one kind.

    Returns
    -------
    pd.DataFrame
        Columns item, image, caption (a line for the label, a line for the score), label, score,
        suggested or suggestions, and as asked full, shown and kind.
    """
    first = scores.iloc[:limit]
    rows = table.set_index("image_id").loc[first.index]
    label = rows["given" if given else "label"]
    figures = first.map(lambda value: "" if pd.isna(value) else f"\n{score_name} {value:.2f}")
    # Galleries and sheets write the suggestion under the caption.
    shown = pd.DataFrame(
        {
            "item": first.index,
            "image": inventory.set_index("image_id").loc[first.index, "file"].to_numpy(),
            "caption": (label.map(name_of) + figures.to_numpy()).to_numpy(),
            "label": label.to_numpy(),
            "score": first.fillna(0).to_numpy(),
        }
    )
    if raw is not None:
        shown["full"] = [raw / path for path in rows["path"]]
    if suggestions is None:
        shown["suggested"] = rows["suggested"].to_numpy()
    else:
        shown["suggestions"] = [list(suggestions.get(image, [])) for image in first.index]
    if verdict is not None:
        verdicts = verdict.reindex(first.index).fillna("").to_numpy()
        shown["shown"] = _as_seen(shown, verdicts)
        likeliest = shown["suggested"] if suggestions is None else _likeliest(shown["suggestions"])
        shown["kind"] = shown["label"] + "\n" + verdicts + "\n" + likeliest
    return shown


def _likeliest(suggestions: pd.Series) -> pd.Series:
    return suggestions.map(lambda pairs: pairs[0][0] if pairs else "")


def _as_seen(shown: pd.DataFrame, verdict: Sequence[str]) -> list[str]:
    """What the journal notes: the rule's verdict, label and score, and the suggestions."""
    likely = (
        shown["suggestions"].map(
            lambda pairs: ", ".join(f"{name} {p:.2f}" for name, p in pairs[:5])
        )
        if "suggestions" in shown
        else shown["suggested"]
    )
    captions = shown["caption"].map(in_one_line)
    return list(map(shown_text, verdict, captions, likely))


def exemplars(
    table: pd.DataFrame, inventory: pd.DataFrame, surest: pd.Series, count: int = 12
) -> dict[str, list[str]]:
    """The images that show each class best: class → files in the cache, the surest first.

    Parameters
    ----------
    table
        The label table: only train images that are kept under the label they came with count.
    inventory
        Columns image_id and file.
    surest
        How sure the networks are of the given label, 0 to 1, indexed by image_id.
    count
        At most so many files a class.
    """
    kept = table[(table["status"] == "keep") & (table["label"] == table["given"])]
    kept = kept[kept["image_id"].isin(surest.index) & (kept["split"] == "train")]
    ordered = kept.assign(
        sure=surest[kept["image_id"]].to_numpy(),
        file=inventory.set_index("image_id").loc[kept["image_id"], "file"].to_numpy(),
    ).sort_values("sure", ascending=False, kind="stable")
    return {label: files.head(count).tolist() for label, files in ordered.groupby("label")["file"]}


def of_copies(table: pd.DataFrame, inventory: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """The candidates of a sheet of copies: one row a group of `listed`, its images side by side.

    Parameters
    ----------
    table, inventory
        As for `of_images`.
    listed
        Columns image_id and group.

    Returns
    -------
    Columns item (the group), image (a list of files in the cache) and caption (their labels).
    """
    files = inventory.set_index("image_id")["file"]
    names = table.set_index("image_id")["given"].replace("", "test")
    rows = [
        (group, files[ids].tolist(), _labels_of(names[ids]))
        for group, ids in listed.groupby("group", sort=False)["image_id"]
    ]
    return pd.DataFrame(rows, columns=["item", "image", "caption"])


def _labels_of(names: pd.Series) -> str:
    """The labels of some copies, the most frequent first, with how many agree where it says much.

    Such as `80 % agree: rose (4) | lily`.
    """
    names = names.map(lambda name: shortened(name_of(name), LONGEST_LABEL))
    counts = names.value_counts(sort=False).sort_values(ascending=False, kind="stable")
    shown = [name if count == 1 else f"{name} ({count})" for name, count in counts.items()]
    more = len(shown) - MOST_LABELS
    text = " | ".join(shown[:MOST_LABELS]) + (f" | and {more} more" if more > 0 else "")
    given = names[names != "test"].value_counts()
    few = given.sum() < 3 or len(given) < 2
    return text if few else f"{given.max() / given.sum():.0%} agree: {text}"


def of_contested(
    table: pd.DataFrame, inventory: pd.DataFrame, found: pd.DataFrame, raw: Path
) -> pd.DataFrame:
    """The candidates of a gallery, an image for each group of copies under many labels.

    Parameters
    ----------
    table, inventory, raw
        As for `of_images`.
    found
        A row a group: columns shown (the id of its image), copies, labels and share (of the copies
        that agree, 0 to 1).

    Returns
    -------
    As `of_images`; the score is the share of copies that do not agree.
    """
    shown = of_images(table, inventory, 1 - found.set_index("shown")["share"], "", raw=raw)
    counts = found[["copies", "labels", "share"]].itertuples(index=False)
    shown["caption"] = [
        f"{copies:.0f} copies, {labels:.0f} labels\n{share:.0%} agree"
        for copies, labels, share in counts
    ]
    return shown


def of_classes(table: pd.DataFrame, inventory: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """The candidates of a gallery with one row a class, in the order of `judged`.

    Parameters
    ----------
    table
        The rows of the label table that are shown.
    inventory
        Columns image_id and file.
    judged
        Indexed by class: images (a count) and agreement (0 to 1).

    Returns
    -------
    Columns item (the class), image (a list of files in the cache), caption, images and agreement.
    """
    files = inventory.set_index("image_id")["file"]
    of_class = {label: files[ids].tolist() for label, ids in table.groupby("given")["image_id"]}
    rows = [
        (
            label,
            of_class[label],
            f"{name_of(label)}\n{row['images']:.0f} images, agreement {row['agreement']:.2f}",
            row["images"],
            row["agreement"],
        )
        for label, row in judged.iterrows()
    ]
    shown = pd.DataFrame(rows, columns=["item", "image", "caption", "images", "agreement"])
    # Numbers also where there is no row, since a gallery sorts by them.
    return shown.astype({"images": float, "agreement": float})


def of_findings(
    table: pd.DataFrame, inventory: pd.DataFrame, found: pd.DataFrame, each_side: int = 5
) -> pd.DataFrame:
    """The candidates of a gallery with a row a finding on whole classes.

    Parameters
    ----------
    table
        The rows of the label table that are shown.
    inventory
        Columns image_id and file.
    found
        A row a finding: columns item, kind, name, other, images, other_images, why and part (image
        ids of a part of `name`).
    each_side
        So many images are shown of the one side, and then so many of the other: of both classes;
        of a class with parts, of the part that stays and of the part that a split takes away.

    Returns
    -------
    Columns item, image (a list of files in the cache), caption, suggestions (of a part: the class
    that it may show), shown (of a part: what the journal notes, with images of it) and images.
    """
    files = inventory.set_index("image_id")["file"]
    came = table.groupby("given")["image_id"]
    stands = table[table["status"] == "keep"].groupby("label")["image_id"]
    rows = []
    for row in found.itertuples():
        if row.part:
            inside = set(row.part)
            stays = [image for image in stands.get_group(row.name) if image not in inside]
            sides = [(row.name, stays), ("a part of it", row.part)]
        else:
            sides = [
                (name, came.get_group(name).tolist())
                for name, count in ((row.name, row.images), (row.other, row.other_images))
                if count
            ]
        shown = [image for _, images in sides for image in _spread(images, each_side)]
        counts = " | ".join(
            f"{name_of(name)} ({len(images)}, {min(len(images), each_side)} shown)"
            for name, images in sides
        )
        suggested = [(row.other, float("nan"))] if row.part and row.other else []
        caption = f"{row.kind}: {counts}\n{row.why}"
        noted = ""
        if row.part:
            noted = in_one_line(caption) + "".join(f" → {name}" for name, _ in suggested)
            noted = with_part(noted, _spread(row.part, NOTED))
        rows.append((row.item, files[shown].tolist(), caption, suggested, noted, row.images))
    columns = ["item", "image", "caption", "suggestions", "shown", "images"]
    shown = pd.DataFrame(rows, columns=columns)
    return shown.astype({"images": float})


def _spread(images: Sequence[str], count: int) -> list[str]:
    """Some of the images, evenly from the first to the last."""
    most = max(1, min(len(images), count))
    return [images[number * len(images) // most] for number in range(min(len(images), most))]


def check_candidates(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates of a gallery or a sheet with all columns filled in.

    Parameters
    ----------
    candidates
        One row an item. Required: `item` (string, unique), `image` (the path of a file that Pillow
        reads; or a list of paths, then an item is a row of photos that is decided as one) and
        `caption` (one or two lines). Optional: `label` (the class), `suggestions` (a list of
        (class, score), the likeliest first) or `suggested` (one class), `full` (the path that
        zooming in shows; by default `image`), `shown` (what the journal notes as shown; by default
        caption and suggestions) and `kind` (candidates of one kind may be decided alike; by default
        all).

    Raises
    ------
    ValueError
        A column is missing or holds wrong values; the message names it.
    """
    missing = [name for name in ("item", "image", "caption") if name not in candidates.columns]
    if missing:
        raise ValueError(f"candidates has no column {missing}; it has {list(candidates.columns)}")
    table = candidates.reset_index(drop=True)
    for name in ("suggested", "shown", "label", "kind"):
        given = table[name].astype(object) if name in table else pd.Series("", table.index)
        table[name] = given.where(given.notna(), "")
    for name in ("item", "caption", "suggested", "shown", "label", "kind"):
        wrong = [value for value in table[name] if not isinstance(value, str)]
        if wrong:
            raise ValueError(
                f"candidates: column `{name}` must hold strings, not {wrong[0]!r}; "
                "convert it where it is made"
            )
    if (table["item"] == "").any():
        raise ValueError("candidates: column `item` holds an empty string")
    twice = table["item"][table["item"].duplicated()]
    if len(twice):
        raise ValueError(f"candidates: {twice.iloc[0]!r} appears twice in column `item`")
    _check_paths(table["image"])
    if "full" not in table:
        table["full"] = table["image"]
    table["suggestions"] = _suggestions(table)
    table["suggested"] = [found[0][0] if found else "" for found in table["suggestions"]]
    noted = [
        in_one_line(caption) + ", ".join(f" → {name}" for name, _ in found)
        for caption, found in zip(table["caption"], table["suggestions"], strict=True)
    ]
    table["shown"] = table["shown"].where(table["shown"] != "", pd.Series(noted, table.index))
    return table


def in_one_line(caption: str) -> str:
    """A caption of several lines as one, for a journal or a log."""
    return caption.replace("\n", "  ")


class UnderPhoto(NamedTuple):
    """The lines under a photo: its caption, the likeliest other class, and both scores."""

    caption: str
    suggested: str
    scores: str


def under_photo(caption: str, label: str, suggestions: Sequence[tuple[str, float]]) -> UnderPhoto:
    """The lines under a photo; empty strings for what there is not.

    Names and scores are on lines of their own, so that a long name takes no score's place. Where
    the likeliest class is the given label itself, the networks name no other one: `unsure`.

    Parameters
    ----------
    caption
        The first line is a name, further ones hold its score.
    label
        The class that the image came with, or empty.
    suggestions
        (class, score) pairs, the likeliest first; a score may be NaN.
    """
    first, *others = caption.split("\n")
    scores = "  ".join(others)
    if not suggestions:
        return UnderPhoto(first, "", scores)
    name, score = suggestions[0]
    if name == label:
        return UnderPhoto(first, UNSURE, scores)
    # The score of the caption may be the likeliest class's own, which need not be there twice.
    if score == score and not scores.endswith(f"{score:.2f}"):
        scores = f"{scores} → {score:.2f}".strip()
        if len(scores) > WIDEST_SCORES:
            # The number alone, without what it is called.
            scores = f"{others[-1].split()[-1]} → {score:.2f}"
    return UnderPhoto(first, f"→ {name_of(name)}", scores)


def is_rows(candidates: pd.DataFrame) -> bool:
    """Whether an item of checked candidates is a row of photos."""
    return len(candidates) > 0 and isinstance(candidates["image"].iloc[0], list | tuple)


def _check_paths(images: pd.Series) -> None:
    kinds = {isinstance(value, list | tuple) for value in images}
    if len(kinds) > 1:
        raise ValueError("candidates: column `image` holds both paths and lists of paths")
    for value in images:
        for path in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(path, str | Path):
                raise ValueError(f"candidates: column `image` must hold paths, not {path!r}")


def _suggestions(table: pd.DataFrame) -> pd.Series:
    """(class, score) pairs of each row, the likeliest first; a lone suggestion has no score."""
    if "suggestions" not in table:
        lone = [[(name, float("nan"))] if name else [] for name in table["suggested"]]
        return pd.Series(lone, table.index, dtype=object)
    for pairs in table["suggestions"]:
        for pair in pairs if isinstance(pairs, list | tuple) else [pairs]:
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise ValueError(
                    f"candidates: column `suggestions` must hold lists of (class, score), not "
                    f"{pairs!r}"
                )
    return table["suggestions"]
