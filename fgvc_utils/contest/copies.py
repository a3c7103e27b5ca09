"""Copies of one picture, exact or near: found by how they look, whatever file they came in."""

from collections.abc import Iterable

import imagehash
import numpy as np
import pandas as pd
from PIL import Image, ImageOps

BITS = 64
COLOURS = 4
# Of 255: how far two pictures of one scene may lie apart in their coarse colours, on average.
COLOUR_DISTANCE = 16
GREY = 6
# So many neighbours in a band are compared before what was found is joined; then that many times
# as many.
FIRST_STEPS = 8


def hashes(picture: Image.Image) -> dict[str, str]:
    """Hashes of what a picture shows, as hexadecimal digits.

    Returns
    -------
    dict
        `look` is the picture's 64-bit perceptual hash (pHash), `look_mirrored` that of its mirror
        image, and `colours` the mean RGB colours of a 4 × 4 grid, 48 bytes.
    """
    grid = np.asarray(picture.resize((COLOURS, COLOURS), Image.Resampling.BOX), dtype=np.uint8)
    return {
        "look": str(imagehash.phash(picture)),
        "look_mirrored": str(imagehash.phash(ImageOps.mirror(picture))),
        "colours": grid.tobytes().hex(),
    }


def groups(taken: pd.DataFrame, distance: int) -> pd.Series:
    """Group images that show the same picture; gives each row the image_id of its group's first.

    Two images are copies where their hashes, one of them mirrored or not, differ in at most
    `distance` bits and their coarse colours agree (their brightness, where one is grey). So
    re-encoded, resized, slightly cropped, mirrored and greyed copies join their source. Copies of
    copies are one group.

    Parameters
    ----------
    taken
        A row an image: columns image_id and those of `hashes`, which are empty where the image
        cannot be read. Such an image is a group of its own.
    distance
        The most bits in which the hashes of copies differ.

    Returns
    -------
    pd.Series
        The group of each row of `taken`, with its index.
    """
    readable = np.flatnonzero((taken["look"] != "").to_numpy())
    ids = taken["image_id"].to_numpy(dtype=object)
    # Pictures with equal hashes are one from the start, however many they are.
    same, first = np.unique(
        (taken["look"] + taken["colours"]).to_numpy(dtype=str)[readable], return_inverse=True
    )
    one_of = np.zeros(len(same), dtype=np.int64)
    one_of[first[::-1]] = readable[::-1]
    one = _alike(taken.iloc[one_of], distance)
    group = pd.Series(ids, index=taken.index)
    of_readable = pd.Series(ids[readable])
    group.iloc[readable] = of_readable.groupby(one[first]).transform("first").to_numpy()
    return group


def same_picture(one: pd.DataFrame, other: pd.DataFrame, distance: int) -> np.ndarray:
    """Whether each row shows the same picture as the row at its place in another table.

    Parameters
    ----------
    one, other
        The columns of `hashes`, as many rows; empty where an image cannot be read.
    distance
        As for `groups`.

    Returns
    -------
    np.ndarray
        Boolean (rows,); false where one of the two cannot be read.
    """
    there = ((one["look"] != "").to_numpy()) & ((other["look"] != "").to_numpy())
    found = np.zeros(len(one), bool)
    one, other = one[there], other[there]
    if not len(one):
        return found
    for name, mirrored in (("look", False), ("look_mirrored", True)):
        near = np.bitwise_count(_numbers(one["look"]) ^ _numbers(other[name])) <= distance
        turned = np.full(len(one), mirrored)
        alike = _same_colours(_grids(one["colours"]), _grids(other["colours"]), turned)
        found[there] |= near & alike
    return found


def joined(count: int, pairs: Iterable[np.ndarray]) -> np.ndarray:
    """The first of all groups that each group is joined to, itself where it is joined to none.

    Parameters
    ----------
    count
        How many groups there are.
    pairs
        int (2, pairs) of group numbers.

    Returns
    -------
    np.ndarray
        int64 (groups,) of group numbers.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places = np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)
    graph = coo_array((np.ones(places.shape[1], bool), places), shape=(count, count))
    components, component = connected_components(graph, directed=False)
    first = np.full(components, count)
    np.minimum.at(first, component, np.arange(count))
    return first[component]


def _alike(taken: pd.DataFrame, distance: int) -> np.ndarray:
    """The first row that each row is joined to by pictures that look alike, int64 (rows,).

    Hashes that differ in at most d bits agree in one of d + 1 bands (Norouzi, Punjani and Fleet,
    Fast search in Hamming space with multi-index hashing, 2012), so only those are compared. What
    is joined already is not compared again: of one picture that was stored in thousands of ways
    each is compared with a few others.
    """
    count = len(taken)
    plain, mirrored = (_numbers(taken[name]) for name in ("look", "look_mirrored"))
    codes, owner = np.concatenate([plain, mirrored]), np.tile(np.arange(count), 2)
    is_mirrored = np.repeat([False, True], count)
    colours = _grids(taken["colours"])
    edges = np.linspace(0, BITS, distance + 2).astype(np.uint64)
    one = np.arange(count)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        band = (codes >> low) & np.uint64((1 << int(high - low)) - 1)
        for steps in (FIRST_STEPS**power for power in range(1, 64)):
            size = np.bincount(one, minlength=count)[one]
            order = np.lexsort((one[owner], -size[owner], band))
            at, to = np.arange(len(order)), _next_apart(band[order], one[owner[order]])
            found = []
            for _ in range(steps):
                there = to < len(order)
                there[there] = band[order[at[there]]] == band[order[to[there]]]
                at, to = at[there], to[there]
                if not len(at):
                    break
                a, b = order[at], order[to]
                near = np.bitwise_count(codes[a] ^ codes[b]) <= distance
                a, b = a[near], b[near]
                apart = (one[owner[a]] != one[owner[b]]) & ~(is_mirrored[a] & is_mirrored[b])
                a, b = a[apart], b[apart]
                turned = is_mirrored[a] != is_mirrored[b]
                alike = _same_colours(colours[owner[a]], colours[owner[b]], turned)
                found.append(np.stack([owner[a][alike], owner[b][alike]]))
                to = to + 1
            one = joined(count, [np.stack([np.arange(count), one]), *found])
            if not len(at):
                break
    return one


def _next_apart(band: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Of sorted places the first one after each that is of another band or joined to others."""
    changes = np.flatnonzero((band[1:] != band[:-1]) | (one[1:] != one[:-1])) + 1
    ends = np.r_[changes, len(band)]
    return np.repeat(ends, np.diff(np.r_[0, ends]))


def _numbers(hexadecimal: pd.Series) -> np.ndarray:
    return np.array([int(text, 16) for text in hexadecimal], dtype=np.uint64)


def _grids(hexadecimal: pd.Series) -> np.ndarray:
    """The coarse colours of pictures, int16 (rows, COLOURS, COLOURS, 3)."""
    colours = np.array([list(bytes.fromhex(text)) for text in hexadecimal], dtype=np.int16)
    return colours.reshape(len(hexadecimal), COLOURS, COLOURS, 3)


def _same_colours(one: np.ndarray, other: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    other = np.where(mirrored[:, None, None, None], other[:, :, ::-1], other)
    grey = _is_grey(one) | _is_grey(other)
    apart = np.abs(one - other).mean(axis=(1, 2, 3))
    brightness = np.abs(_brightness(one) - _brightness(other)).mean(axis=(1, 2))
    return np.where(grey, brightness, apart) <= COLOUR_DISTANCE


def _is_grey(colours: np.ndarray) -> np.ndarray:
    return (colours.max(axis=3) - colours.min(axis=3)).max(axis=(1, 2)) <= GREY


def _brightness(colours: np.ndarray) -> np.ndarray:
    return colours @ np.array([0.299, 0.587, 0.114])


def conflicts(table: pd.DataFrame) -> pd.DataFrame:
    """Train images that are copies of each other but came with different labels.

    Takes a label table with its `group` column; returns image_id, path, given and group.
    """
    train = table[table["split"] == "train"]
    labels = train.groupby("group")["given"].transform("nunique")
    return train.loc[labels > 1, ["image_id", "path", "given", "group"]].sort_values("group")


def across(table: pd.DataFrame) -> pd.DataFrame:
    """Images of groups that hold both train and test images: image_id, path, split, given, group.

    A copy of a test image among the train images tells its class where its label is right.
    """
    splits = table.groupby("group")["split"].transform("nunique")
    return table.loc[splits > 1, ["image_id", "path", "split", "given", "group"]].sort_values(
        ["group", "split"], ascending=[True, False]
    )
