"""Can two sets of images be told apart, and is one set two? Measured on held-out images.

Arrays come in, figures go out.
"""

from dataclasses import dataclass

import numpy as np

from fgvc_utils.cleaning.vectors import unit_rows

# Images of a side that are looked at, which bounds the time; more would narrow an interval little.
MOST = 150
FOLDS, REPEATS = 5, 4
# Images that the space is learnt from, and its width: what networks know of a class fits in there.
SAMPLE, WIDTH = 20_000, 64
# Most steps of two-means, and draws of images for the interval.
STEPS, DRAWS = 20, 200
# What a cut through the middle of one cloud takes away of its scatter, 2 / pi.
CLOUD = 2 / np.pi
# Folds learn from the same images, so their results vary more than the formula for one says: by so
# much, measured on sets of 12 to 60 images that nothing tells apart.
OVERLAP = 1.2
# Half the width of a 95 % interval, in standard errors.
Z = 1.959964


@dataclass(frozen=True)
class Apart:
    """How well a classifier orders one held-out image of each of two sets.

    Parameters
    ----------
    share
        The share of such pairs that it orders right (the area under the ROC curve): .5 is chance.
    low, high
        Its 95 % interval.
    """

    share: float
    low: float
    high: float


def tell_apart(
    features: np.ndarray, side: np.ndarray, groups: np.ndarray, seed: int = 0
) -> Apart | None:
    """How well two sets of images are told apart by a linear classifier that did not see them.

    Ridge regression on four fifths orders the last fifth, five times, for several cuts in fifths.
    The share of pairs that are ordered right follows neither from the sizes of the two sets nor
    from a threshold.

    Parameters
    ----------
    features
        Float (images, width).
    side
        Which set each image is of, boolean (images,).
    groups
        Images of one group are copies of each other, (images,). A group counts once a side, and is
        held out as one.
    seed
        What is drawn follows from it.

    Returns
    -------
    Apart or None
        None where a side has fewer than five images, copies counted once.

    References
    ----------
    Hanley and McNeil, The meaning and use of the area under a receiver operating characteristic
    curve, Radiology, 1982: the standard error.
    """
    random = np.random.default_rng(seed)
    rows = np.concatenate([_drawn(side == one, groups, random) for one in (False, True)])
    first, second = (~side[rows]).sum(), side[rows].sum()
    if min(first, second) < FOLDS:
        return None
    unit = _unit(features[rows])
    unit -= unit.mean(axis=0)
    target = np.where(side[rows], 1.0, -1.0)
    kernel = unit @ unit.T
    right = pairs = 0.0
    for _ in range(REPEATS):
        fold = _dealt(side[rows], groups[rows], random)
        for held in range(FOLDS):
            out = fold == held
            known = kernel[np.ix_(~out, ~out)]
            ridge = known + np.eye(len(known)) * max(np.trace(known) / len(known), 1e-12)
            weights = np.linalg.solve(ridge, target[~out] - target[~out].mean())
            score = kernel[np.ix_(out, ~out)] @ weights
            ahead = score[target[out] > 0][:, None] - score[target[out] < 0][None, :]
            right += (ahead > 0).sum() + (ahead == 0).sum() / 2
            pairs += ahead.size
    if not pairs:
        return None
    share = right / pairs
    one, two = share / (2 - share), 2 * share**2 / (1 + share)
    spread = share * (1 - share) * REPEATS / pairs
    spread += (one - share**2) / first + (two - share**2) / second
    half = OVERLAP * Z * max(spread, 0.0) ** 0.5
    return Apart(float(share), max(0.0, float(share - half)), min(1.0, float(share + half)))


def _unit(features: np.ndarray) -> np.ndarray:
    return unit_rows(features.astype(np.float32))


def once(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The first of some rows in each group of copies, in their order.

    Parameters
    ----------
    rows
        Row numbers, int (rows,).
    groups
        The group of each image, (images,).
    """
    return rows[np.sort(np.unique(groups[rows].astype(str), return_index=True)[1])]


def _drawn(of_side: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rows of one side, a group once, at most `MOST`."""
    rows = once(np.flatnonzero(of_side), groups)
    return rows if len(rows) <= MOST else np.sort(random.choice(rows, MOST, replace=False))


def _dealt(side: np.ndarray, groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A fold for each image: each side dealt evenly, a group on both sides in one fold."""
    fold, of_group = np.zeros(len(side), int), {}
    for one in (False, True):
        for number, row in enumerate(random.permutation(np.flatnonzero(side == one))):
            fold[row] = of_group.setdefault(groups[row], number % FOLDS)
    return fold


def like_first(features: np.ndarray, first: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of some images a linear classifier takes for one set rather than for another.

    Parameters
    ----------
    features
        Of the images of both sets, float (images, width).
    first
        Which of them are of the first set, boolean (images,).
    others
        Features of the images that are asked about, float (others, width).

    Returns
    -------
    np.ndarray
        Boolean (others,).
    """
    known = _unit(features)
    middle = (known[first].mean(axis=0) + known[~first].mean(axis=0)) / 2
    known = known - middle
    kernel = known @ known.T
    # Both sets count alike, however many images they have.
    seldom = np.where(first, first.sum(), (~first).sum()) * 2 / len(first)
    ridge = kernel + np.diag(seldom) * max(np.trace(kernel) / len(known), 1e-12)
    weights = np.linalg.solve(ridge, np.where(first, 1.0, -1.0))
    return (_unit(others) - middle) @ known.T @ weights > 0


@dataclass(frozen=True)
class Space:
    """Features as what tells classes apart: how images of one class differ counts as one.

    Parameters
    ----------
    middle
        Float32 (width,).
    axes
        The principal components, float32 (width, fewer).
    scatter
        The scatter of all images around the centres of their classes, summed, float (fewer, fewer).
    freedom
        Images less classes that it is the sum of.
    share
        The share of the images of each class that it was learnt from.
    """

    middle: np.ndarray
    axes: np.ndarray
    scatter: np.ndarray
    freedom: int
    share: float = 1.0

    def of(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Some images in this space, as the other classes scatter, float32 (images, fewer).

        Parameters
        ----------
        features
            Float (images, width).
        labels
            Their classes, int (images,), whose own scatter does not count: a class of two subjects
            would hide behind it what parts them. -1 where the space was not learnt from an image.
        """
        there = (_unit(features) - self.middle) @ self.axes
        own, freedom = _scatter(there[labels >= 0], labels[labels >= 0])
        left, within = self.freedom - freedom * self.share, self.scatter - own * self.share
        if left <= len(own):
            left, within = self.freedom, self.scatter
        within = within / max(left, 1)
        values, turned = np.linalg.eigh(within)
        least = max(float(np.maximum(values, 0).mean()) * 0.01, 1e-12)
        return (there @ (turned / np.sqrt(np.maximum(values, 0) + least))).astype(np.float32)


def _scatter(points: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """The summed scatter of points around the centres of their classes, and its freedom."""
    codes = np.unique(labels, return_inverse=True)[1]
    sums = np.zeros((codes.max(initial=-1) + 1, points.shape[1]))
    np.add.at(sums, codes, points)
    apart = points - (sums / np.bincount(codes)[:, None])[codes]
    return apart.T @ apart, len(points) - len(sums)


def space_of(features: np.ndarray, labels: np.ndarray, share: float = 1.0) -> Space:
    """The space in which images of one class scatter alike in all directions, on the average.

    What the pictures of every class differ in, such as view and background, gets small; what
    classes differ in gets large. Principal components, then whitening by the scatter within
    classes.

    Parameters
    ----------
    features
        Float (images, width); `SAMPLE` images are enough.
    labels
        The class of each, int (images,).
    share
        The share of all images that these are.

    References
    ----------
    Fisher, The use of multiple measurements in taxonomic problems, 1936.
    """
    unit = _unit(features)
    middle = unit.mean(axis=0)
    unit -= middle
    width = min(WIDTH, max(1, len(unit) // 4))
    values, axes = np.linalg.eigh(unit.T @ unit)
    axes = axes[:, np.argsort(-values)[:width]]
    return Space(middle, axes, *_scatter(unit @ axes, labels), share)


@dataclass(frozen=True)
class Cut:
    """A set of images cut in two by what they look like.

    Parameters
    ----------
    along
        Where each image lies on the line between the centres of the two parts that the other images
        showed: above 0 it is of the first part. Float (images,).
    clear
        The share of the scatter along this line that the cut takes away: `CLOUD` where it goes
        through one cloud, 1 where it parts two points.
    low, high
        Its 95 % interval, by drawing images anew.
    """

    along: np.ndarray
    clear: float
    low: float
    high: float

    @property
    def smaller(self) -> np.ndarray:
        """Which images are of the smaller part, boolean (images,)."""
        first = self.along > 0
        return first if first.sum() * 2 <= len(first) else ~first


def cut_in_two(points: np.ndarray, seed: int = 0) -> Cut:
    """Cut images into two clusters, each image by clusters that were found without it.

    Images far from all others, such as noise, are drawn in first: else two-means would cut off a
    few of them.

    Parameters
    ----------
    points
        Float (images, width), in a space as from `space_of`.
    seed
        Which images are held out together follows from it.

    References
    ----------
    Su and Dy, In search of deterministic methods for initializing k-means, 2007: the first cut,
    across the first principal component.
    """
    points = _drawn_in(points)
    axis = np.subtract(*_two_means(points))
    along, random = np.zeros(len(points)), np.random.default_rng(seed)
    fold = random.permutation(len(points)) % FOLDS
    for held in range(FOLDS):
        out = fold == held
        found = _two_means(points[~out])
        between = found[0] - found[1]
        between = between if between @ axis > 0 else -between
        length = max(float(np.linalg.norm(between)), 1e-12)
        along[out] = (points[out] - found.mean(axis=0)) @ (between / length)
    again = along[random.integers(0, len(along), (DRAWS, len(along)))]
    low, high = np.quantile(_cut_away(again), [0.025, 0.975])
    return Cut(along, float(_cut_away(along[None])[0]), float(low), float(high))


def _cut_away(along: np.ndarray) -> np.ndarray:
    """The share of the scatter of each row that a cut at 0 takes away, float (rows,)."""
    first = along > 0
    count = np.stack([first, ~first]).sum(axis=2)
    mean = np.stack([along * first, along * ~first]).sum(axis=2) / np.maximum(count, 1)
    middle = along.mean(axis=1)
    between = (count * (mean - middle) ** 2).sum(axis=0)
    return between / np.maximum(((along - middle[:, None]) ** 2).sum(axis=1), 1e-12)


def _drawn_in(points: np.ndarray) -> np.ndarray:
    """Points around their median, none farther from it than half of them are."""
    points = points - np.median(points, axis=0)
    far = np.linalg.norm(points, axis=1, keepdims=True)
    return points * np.minimum(1, np.median(far) / np.maximum(far, 1e-12))


def _two_means(points: np.ndarray) -> np.ndarray:
    """The centres of two clusters, float (2, width)."""
    apart = points - points.mean(axis=0)
    first = np.linalg.svd(apart, full_matrices=False)[2][0]
    right = apart @ first > 0
    for _ in range(STEPS):
        if right.all() or not right.any():
            break
        centres = np.stack([points[right].mean(axis=0), points[~right].mean(axis=0)])
        now = (points - centres.mean(axis=0)) @ (centres[0] - centres[1]) > 0
        if (now == right).all():
            return centres
        right = now
    return np.stack([points.mean(axis=0) + first, points.mean(axis=0) - first])
