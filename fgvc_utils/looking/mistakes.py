"""What a network gets wrong on held-out images: which sisters it confuses, and its surest mistakes.

Held-out labels are web labels that passed the cleaning, not truth: a sure mistake is often a wrong
label.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fgvc_utils.core.intervals import wilson
from fgvc_utils.looking.class_names import name_of

OTHERS = "(others)"


def _predicted(probabilities: pd.DataFrame, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the labels' and of the most likely classes, int (images,), checked."""
    labels = pd.Index(labels)
    if len(labels) != len(probabilities):
        raise ValueError(
            f"labels has {len(labels)} entries and probabilities {len(probabilities)} rows; "
            "give a label for each row, in the same order"
        )
    own = probabilities.columns.get_indexer(labels)
    if (own < 0).any():
        raise ValueError(f"label {labels[own < 0][0]!r} is no column of probabilities")
    if not len(labels):
        return own, own
    return own, probabilities.to_numpy().argmax(axis=1)


def confused_pairs(
    probabilities: pd.DataFrame, labels: Sequence[str], most: int = 15
) -> pd.DataFrame:
    """The pairs of classes that are most often taken for each other.

    Parameters
    ----------
    probabilities
        Shape (images, classes): one row an image, indexed by image id, one column a class.
    labels
        The class of each row, in the order of the rows.
    most
        At most so many pairs.

    Returns
    -------
    One row a pair, most mistakes first (then by name): class, sister, mistakes (both ways), share
    (of the images of the two classes), class_as_sister (images of the class that were taken for the
    sister; never fewer than the other way), sister_as_class, images_of_class and images_of_sister.

    Raises
    ------
    ValueError
        `labels` has another length, or names a class that is no column.
    """
    own, predicted = _predicted(probabilities, labels)
    classes = probabilities.columns
    images = np.bincount(own, minlength=len(classes))
    wrong = own != predicted
    counts = Counter(zip(own[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    rows = []
    for one, other in {tuple(sorted(pair)) for pair in counts}:
        there, back = counts[one, other], counts[other, one]
        if there < back:
            one, other, there, back = other, one, back, there
        rows.append(
            {
                "class": classes[one],
                "sister": classes[other],
                "mistakes": there + back,
                "share": (there + back) / (images[one] + images[other]),
                "class_as_sister": there,
                "sister_as_class": back,
                "images_of_class": int(images[one]),
                "images_of_sister": int(images[other]),
            }
        )
    names = ["class", "sister", "mistakes", "share", "class_as_sister", "sister_as_class"]
    pairs = pd.DataFrame(rows, columns=[*names, "images_of_class", "images_of_sister"])
    order = ["mistakes", "share", "class", "sister"]
    pairs = pairs.sort_values(order, ascending=[False, False, True, True], ignore_index=True)
    return pairs.head(most)


def sisters(probabilities: pd.DataFrame, labels: Sequence[str], most: int = 15) -> pd.DataFrame:
    """The confusion matrix of the classes in the most confused pairs.

    Classes that are often confused are side by side: they are ordered as the leaves of an
    average-linkage tree.

    Parameters
    ----------
    probabilities, labels, most
        As for `confused_pairs`.

    Returns
    -------
    Counts of images, int: one row a class by label, one column a class by prediction, and a last
    column `(others)` for predictions of classes that are not shown.

    Raises
    ------
    ValueError
        As for `confused_pairs`.

    References
    ----------
    Bar-Joseph, Gifford and Jaakkola (2001), Fast optimal leaf ordering for hierarchical clustering.
    """
    pairs = confused_pairs(probabilities, labels, most)
    shown = sorted({*pairs["class"], *pairs["sister"]})
    own, predicted = _predicted(probabilities, labels)
    answers = pd.DataFrame(
        {"label": probabilities.columns[own], "predicted": probabilities.columns[predicted]}
    )
    answers = answers[answers["label"].isin(shown)]
    counts = pd.crosstab(answers["label"], answers["predicted"])
    square = counts.reindex(index=shown, columns=shown, fill_value=0)
    order = _side_by_side(square)
    square = square.loc[order, order]
    square[OTHERS] = counts.reindex(order, fill_value=0).sum(axis=1) - square.sum(axis=1)
    return square.astype(int).rename_axis(index="label", columns="predicted")


def _side_by_side(counts: pd.DataFrame) -> list[str]:
    """The classes in an order in which the often confused ones are neighbours."""
    if len(counts) < 3:
        return list(counts.index)
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    both = counts.to_numpy() + counts.to_numpy().T
    distance = 1 / (1.0 + both)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance), "average", optimal_ordering=True)
    return list(counts.index[leaves_list(tree)])


def worst(probabilities: pd.DataFrame, labels: Sequence[str], most: int = 24) -> pd.DataFrame:
    """The wrong answers that the network is surest of, the surest first.

    Parameters
    ----------
    probabilities, labels
        As for `confused_pairs`.
    most
        At most so many rows.

    Returns
    -------
    Columns image_id, label, predicted, probability_of_label and probability_of_predicted.

    Raises
    ------
    ValueError
        As for `confused_pairs`.
    """
    own, predicted = _predicted(probabilities, labels)
    values, rows = probabilities.to_numpy(), np.arange(len(own))
    answers = pd.DataFrame(
        {
            "image_id": probabilities.index,
            "label": probabilities.columns[own],
            "predicted": probabilities.columns[predicted],
            "probability_of_label": values[rows, own],
            "probability_of_predicted": values[rows, predicted],
        }
    )
    wrong = answers[own != predicted]
    surest = wrong.sort_values("probability_of_predicted", ascending=False, kind="stable")
    return surest.head(most).reset_index(drop=True)


def typical(probabilities: pd.DataFrame, labels: Sequence[str]) -> pd.Series:
    """Each class's surest right image: class → image id; a class without a right one is left out.

    Parameters
    ----------
    probabilities, labels
        As for `confused_pairs`; with train images there is one for almost every class.

    Raises
    ------
    ValueError
        As for `confused_pairs`.
    """
    own, predicted = _predicted(probabilities, labels)
    right = np.flatnonzero(own == predicted)
    sure = pd.Series(probabilities.to_numpy()[right, own[right]], probabilities.index[right])
    ordered = sure.sort_values(ascending=False, kind="stable")
    names = pd.Series(probabilities.columns[own[right]], sure.index)[ordered.index]
    return pd.Series(ordered.index, names.to_numpy()).groupby(level=0).first()


def to_show(
    mistakes: pd.DataFrame, files: pd.Series, examples: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The candidates of a contact sheet of mistakes.

    Draw them with `sheets.contact_sheet(shown, columns=2, across=4)`.

    Parameters
    ----------
    mistakes
        What `worst` returns.
    files
        Where each picture lies, indexed by image id.
    examples
        Class → image id, as `typical` gives: beside each photo is an example of the predicted
        class, where there is one.

    Returns
    -------
    Columns item, image (a list of files) and caption (a line for the label, a line for the
    prediction, each with its probability).
    """
    examples = {} if examples is None else dict(examples)
    images = [
        [files[image], *(files[examples[name]] for name in [predicted] if name in examples)]
        for image, predicted in zip(mistakes["image_id"], mistakes["predicted"], strict=True)
    ]
    captions = [
        f"{name_of(row.label)} {row.probability_of_label:.2f}\n"
        f"→ {name_of(row.predicted)} {row.probability_of_predicted:.2f}"
        for row in mistakes.itertuples()
    ]
    shown = pd.DataFrame({"item": mistakes["image_id"].to_numpy(), "caption": captions})
    shown["image"] = pd.Series(images, dtype=object)
    return shown[["item", "image", "caption"]]


def by_size(sizes: pd.Series, accuracy: pd.Series, images: pd.Series) -> pd.DataFrame:
    """Held-out accuracy by the size of the class, in bins that double: 1, 2–3, 4–7, 8–15 ….

    Parameters
    ----------
    sizes
        Train images of each class.
    accuracy
        Share of each class's held-out images that are right, 0 to 1.
    images
        Held-out images of each class.

    Returns
    -------
    One row a bin that has classes: smallest, largest (train images), classes, n (held-out images),
    accuracy (the share of them that are right), low and high (its 95 % interval). Classes without
    train images or without held-out ones are left out.

    References
    ----------
    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    known = pd.DataFrame({"size": sizes.reindex(accuracy.index), "accuracy": accuracy})
    known["images"] = images.reindex(accuracy.index)
    known = known[(known["size"] > 0) & (known["images"] > 0)]
    doublings = np.floor(np.log2(known["size"])).astype(int)
    rows = []
    for doubling, classes in known.groupby(doublings):
        n = int(classes["images"].sum())
        hits = round(float((classes["accuracy"] * classes["images"]).sum()))
        low, high = wilson(hits, n)
        smallest, largest = 2**doubling, 2 ** (doubling + 1) - 1
        row = {"smallest": smallest, "largest": largest, "classes": len(classes), "n": n}
        rows.append(row | {"accuracy": hits / n, "low": low, "high": high})
    columns = ["smallest", "largest", "classes", "n", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
