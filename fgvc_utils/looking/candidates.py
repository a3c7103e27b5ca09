"""What galleries and contact sheets show: candidates made of the label table and the inventory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from fgvc_utils.contest.journal import shown_text


def of_images(
    table: pd.DataFrame,
    inventory: pd.DataFrame,
    scores: pd.Series,
    score_name: str,
    *,
    looks: int | None = None,
    given: bool = False,
    raw: Path | None = None,
    suggestions: Mapping[str, list[tuple[str, float]]] | None = None,
    verdict: pd.Series | None = None,
) -> pd.DataFrame:
    """The images of `scores` (by image_id) in its order, at most `looks` of them.

    Columns item, image (in the cache), caption (label and score), label, score and suggested. The
    label is the one in force, or with `given` the one that the image came with. With `raw`, the
    folder of raw images, zooming in shows those. `suggestions` (image_id → (class, score) pairs)
    take the place of the table's one. `verdict` (by image_id) is what a rule says so far; the
    journal notes it with what was shown.
    """
    first = scores.iloc[:looks]
    rows = table.set_index("image_id").loc[first.index]
    label = rows["given" if given else "label"]
    told = first.map(lambda value: "" if pd.isna(value) else f"  {score_name} {value:.2f}")
    # The gallery itself writes the suggestion under the caption.
    shown = pd.DataFrame(
        {
            "item": first.index,
            "image": inventory.set_index("image_id").loc[first.index, "file"].to_numpy(),
            "caption": (label + told.to_numpy()).to_numpy(),
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
        shown["shown"] = _as_seen(shown, verdict.reindex(first.index).fillna("").to_numpy())
    return shown


def _as_seen(shown: pd.DataFrame, verdict: Sequence[str]) -> list[str]:
    """What the journal notes: the rule's word, label and score, and the suggestions."""
    likely = (
        shown["suggestions"].map(
            lambda pairs: ", ".join(f"{name} {p:.2f}" for name, p in pairs[:5])
        )
        if "suggestions" in shown
        else shown["suggested"]
    )
    return list(map(shown_text, verdict, shown["caption"], likely))


def exemplars(
    table: pd.DataFrame, inventory: pd.DataFrame, surest: pd.Series, count: int = 12
) -> dict[str, list[str]]:
    """Each class's surest images: class → at most `count` files in the cache, the surest first.

    `surest` (by image_id) is how sure the networks are of the given label; `table` tells which
    images are kept under it.
    """
    kept = table[(table["status"] == "keep") & (table["label"] == table["given"])]
    kept = kept[kept["image_id"].isin(surest.index) & (kept["split"] == "train")]
    ordered = kept.assign(
        sure=surest[kept["image_id"]].to_numpy(),
        file=inventory.set_index("image_id").loc[kept["image_id"], "file"].to_numpy(),
    ).sort_values("sure", ascending=False, kind="stable")
    return {label: files.head(count).tolist() for label, files in ordered.groupby("label")["file"]}


def of_copies(table: pd.DataFrame, inventory: pd.DataFrame, listed: pd.DataFrame) -> pd.DataFrame:
    """What a sheet of copies shows: a row a group of `listed`, with its images side by side.

    `listed` has the columns image_id and group. Columns item, image and caption, as for a gallery.
    """
    files = inventory.set_index("image_id")["file"]
    names = table.set_index("image_id")["given"].replace("", "test")
    rows = [
        (group, files[ids].tolist(), " | ".join(names[ids]))
        for group, ids in listed.groupby("group", sort=False)["image_id"]
    ]
    return pd.DataFrame(rows, columns=["item", "image", "caption"])


def of_classes(table: pd.DataFrame, inventory: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """What a class-a-row gallery shows: classes in the order of `judged`, with their images.

    `judged` is indexed by class with the columns images and agreement; `table` holds the rows to
    show. Columns item, image (lists of files in the cache), caption, images and agreement.
    """
    files = inventory.set_index("image_id")["file"]
    of_class = {label: files[ids].tolist() for label, ids in table.groupby("given")["image_id"]}
    rows = [
        (
            label,
            of_class[label],
            f"{label}: {row['images']:.0f} images, agreement {row['agreement']:.2f}",
            row["images"],
            row["agreement"],
        )
        for label, row in judged.iterrows()
    ]
    return pd.DataFrame(rows, columns=["item", "image", "caption", "images", "agreement"])
