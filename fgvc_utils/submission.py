"""From scores to a submission: which class each test image gets, and the contest's file."""

import heapq
import math
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils.files import whole_file


def cap_for(known_count: int, images: int, classes: int, slack: float) -> int:
    """The most images a class takes: ceil(slack × the known count of images a class).

    `known_count` 0 means equal classes of unknown size: images / classes. Raises ValueError where
    cap × classes does not cover the images.
    """
    cap = math.ceil(slack * (known_count or images / classes))
    if cap * classes < images:
        raise ValueError(
            f"a cap of {cap} on {classes} classes covers {cap * classes} of {images} test images; "
            "raise known_count or slack, or use the rule plain"
        )
    return cap


def covering(cap: int, images: int, classes_left: int) -> int:
    """The cap, raised to what the classes that are left need to cover all images.

    Classes that cleaning emptied take no image, so their share falls to the others.
    """
    return max(cap, math.ceil(images / classes_left))


def assign_capped(scores: np.ndarray, cap: int) -> np.ndarray:
    """Give each image one class, a class at most `cap` images, the surest pairs first.

    All (image, class) pairs are taken in order of score; an image whose class is full goes to its
    next best class with room. `scores` float (images, classes); equal scores go by image, then by
    class. Returns int64 (images,).
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    room = np.full(scores.shape[1], cap)
    assigned = np.full(len(scores), -1, dtype=np.int64)
    place = np.zeros(len(scores), dtype=np.int64)

    def entry(image: int) -> tuple[float, int, int]:
        label = int(order[image, place[image]])
        return -float(scores[image, label]), image, label

    # An image's pairs come in falling score, so the best pair left of each image is enough.
    waiting = [entry(image) for image in range(len(scores))]
    heapq.heapify(waiting)
    while waiting:
        _, image, label = waiting[0]
        if room[label]:
            room[label] -= 1
            assigned[image] = label
            heapq.heappop(waiting)
        else:
            while not room[order[image, place[image]]]:
                place[image] += 1
            heapq.heapreplace(waiting, entry(image))
    return assigned


def submission_ids(table: pd.DataFrame, image_column: str) -> pd.Series:
    """What a submission calls the test images: their path, name, stem, or image_id.

    Raises ValueError where two images would share one.
    """
    test = table[table["split"] == "test"]
    names = {
        "image_id": lambda: test["image_id"],
        "path": lambda: test["path"],
        "name": lambda: test["path"].map(lambda path: Path(path).name),
        "stem": lambda: test["path"].map(lambda path: Path(path).stem),
    }[image_column]()
    if names.duplicated().any():
        twice = names[names.duplicated()].iloc[0]
        raise ValueError(f"image_column {image_column}: two test images are called {twice!r}")
    return names


def write_submission(
    names: pd.Series, labels: pd.Series, classes: list[str], columns: list[str], path: Path
) -> None:
    """Check and write the contest's file: a row a test image, text as it is.

    Raises ValueError where an image lacks a class or a class is unknown.
    """
    if len(names) != len(labels):
        raise ValueError(f"{len(names)} test images but {len(labels)} classes for them")
    strangers = set(labels) - set(classes)
    if strangers:
        raise ValueError(f"class {sorted(map(str, strangers))[0]!r} is not one of the contest's")
    frame = pd.DataFrame({columns[0]: names.to_numpy(), columns[1]: labels.to_numpy()})
    with whole_file(Path(path)) as temporary:
        frame.to_csv(temporary, index=False)
