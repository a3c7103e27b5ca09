"""The ways to combine an ensemble's members: one entry a way, and the records that they make.

There are two kinds of entry. A combination (`COMBINATIONS`) answers with its members' softmax, a
layer (`LAYERS`) is trained on their features. Code reads a way's fields, never its name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

# A member's probability of a label counts as at least this, so that one zero costs no endless loss.
LEAST = 1e-7

Block = dict[str, np.ndarray]


class Way(NamedTuple):
    """One answer of an ensemble.

    Attributes
    ----------
    name : str
        What tables and plots call it.
    weights : Mapping[str, float]
        Member → its weight; the weights sum to 1.
    kind : str
        The entry of `COMBINATIONS` or `LAYERS` that it is made by.
    votes : bool
        Whether it has a vote.
    """

    name: str
    weights: Mapping[str, float]
    kind: str = "mean"
    votes: bool = True


class Combination(NamedTuple):
    """An entry of `COMBINATIONS`: a way that needs no training.

    Attributes
    ----------
    sizes : str
        The parameter of 30 that switches it on: of how many of the best members, a number or a
        list of them; 0 or an empty list leaves it out.
    name : str
        What its ways are called; `{}` is the number of members.
    caption : str
        What it does, for people.
    combine : Callable
        From the members' softmax, a list of float32 (images, classes), and their weights, a tuple
        of float, to float32 (images, classes).
    weights : str
        The parameter that says `equal` or `fitted`; where there is none they are equal.
    """

    sizes: str
    name: str
    caption: str
    combine: Callable[[Sequence[np.ndarray], Sequence[float]], np.ndarray]
    weights: str = ""


class Layer(NamedTuple):
    """An entry of `LAYERS`: a way that is trained on the features of its members.

    Attributes
    ----------
    models : str
        The parameter of 30 that switches it on: how many of the best members; 0 leaves it out.
    name : str
        What it is called.
    caption : str
        What it does, for people.
    head : str
        The head that a job trains, as in `Job`.
    random_views : bool
        Whether it learns from views changed at random; else from the train images as at test.
    votes : str
        The parameter that lets it vote; where there is none it votes.
    """

    models: str
    name: str
    caption: str
    head: Literal["linear", "convolution", "convolution-along"]
    random_views: bool = False
    votes: str = ""


def mean_of(probabilities: Sequence[np.ndarray], weights: Sequence[float] = ()) -> np.ndarray:
    """Average softmax outputs.

    Parameters
    ----------
    probabilities : sequence of np.ndarray
        One or more, float (images, classes) each.
    weights : sequence of float
        One each; none means equal ones.

    Returns
    -------
    np.ndarray
        Float32 (images, classes).

    Raises
    ------
    ValueError
        There are not as many weights as outputs.
    """
    total = np.zeros_like(probabilities[0], dtype=np.float32)
    for each, weight in zip(probabilities, weights or [1.0] * len(probabilities), strict=True):
        total += each if weight == 1 else np.float32(weight) * each
    return total / (sum(weights) if weights else len(probabilities))


COMBINATIONS: dict[str, Combination] = {
    "mean": Combination(
        sizes="mean_sizes",
        name="mean of {}",
        caption="the weighted mean of the members' softmax",
        combine=mean_of,
        weights="mean_weights",
    ),
}

# A key is also the folder of the layer's job in the run's work folder.
LAYERS: dict[str, Layer] = {
    "features-layer-random-views": Layer(
        models="augmented_models",
        name="features + layer, random views",
        caption="one linear layer on the members' features of randomly changed views",
        head="linear",
        random_views=True,
    ),
    "features-layer-test-views": Layer(
        models="plain_models",
        name="features + layer, test views",
        caption="one linear layer on the members' features, train images prepared as at test",
        head="linear",
    ),
    "convolution-over-models": Layer(
        models="convolution_models",
        name="convolution over models",
        caption="a 1-D convolution whose kernel runs over the models, then a linear layer",
        head="convolution",
        votes="vote_convolution",
    ),
    "convolution-along-features": Layer(
        models="convolution_models",
        name="convolution along features",
        caption="a 1-D convolution whose kernel runs along the features, then a linear layer",
        head="convolution-along",
        votes="vote_convolution",
    ),
}


def single(member: str) -> Way:
    """Make the way that is one member alone, under the member's name."""
    return Way(member, {member: 1.0})


def member_sets(ranked: Sequence[str], sizes: Iterable[int]) -> list[tuple[str, ...]]:
    """Take the best members of each size, as many as there are; equal sets are taken once.

    Parameters
    ----------
    ranked : sequence of str
        Members, the best first.
    sizes : iterable of int
        How many; sizes of 0 make no set.
    """
    sets = [tuple(ranked[:size]) for size in sizes]
    return list(dict.fromkeys(members for members in sets if members))


def combined(
    cfg: Any,
    ranked: Sequence[str],
    own: pd.DataFrame,
    rows: pd.Series,
    admitted: Sequence[str] = (),
) -> list[Way]:
    """Build the combinations that the parameters switch on.

    Parameters
    ----------
    cfg : EnsembleParams
        Parameters of 30.
    ranked : sequence of str
        Members that held-out images may judge, the best first.
    own : pd.DataFrame
        Each member's probability of each held-out image's label; a row an image, a column a member.
    rows : pd.Series
        Boolean, by image id: the held-out images that fitted weights are chosen on.
    admitted : sequence of str
        Further members, which enter each combination with the mean weight of the others.

    Raises
    ------
    ValueError
        Weights are to be fitted and `rows` chooses no image.
    """
    ways = []
    for kind, entry in COMBINATIONS.items():
        sizes = getattr(cfg, entry.sizes)
        for members in member_sets(ranked, [sizes] if isinstance(sizes, int) else sizes):
            if entry.weights and getattr(cfg, entry.weights) == "fitted":
                weights = fit_weights(own.loc[rows, list(members)].to_numpy()).tolist()
            else:
                weights = [1 / len(members)] * len(members)
            way = Way(entry.name.format(len(members)), dict(zip(members, weights, strict=True)))
            ways.append(admit(way._replace(kind=kind), admitted))
    return ways


def layer_ways(cfg: Any, trained: Iterable[str]) -> list[Way]:
    """Build the ways of layers that were trained, each its own only member.

    Parameters
    ----------
    cfg : EnsembleParams
        Parameters of 30.
    trained : iterable of str
        Names of the layers there are, as in `LAYERS`.
    """
    there = set(trained)
    return [
        Way(entry.name, {entry.name: 1.0}, kind, not entry.votes or getattr(cfg, entry.votes))
        for kind, entry in LAYERS.items()
        if entry.name in there
    ]


def described(way: Way) -> str:
    """Say in a line what a way does, and whether it has a vote."""
    caption = (COMBINATIONS | LAYERS)[way.kind].caption
    return f"{way.name}: {caption}{'' if way.votes else '; without a vote'}"


def weight_table(ways: Iterable[Way]) -> pd.DataFrame:
    """Tabulate the weights of some ways: a row a member, a column a way, 0 for no member of it.

    Returns
    -------
    pd.DataFrame
        Float, its index called `member`.
    """
    table = pd.DataFrame({way.name: dict(way.weights) for way in ways}, dtype=float)
    return table.fillna(0.0).rename_axis("member")


def admit(way: Way, further: Sequence[str]) -> Way:
    """Give a way further members, each with the mean weight of the others."""
    if not further:
        return way
    count = len(way.weights) + len(further)
    share = {name: weight * len(way.weights) / count for name, weight in way.weights.items()}
    return way._replace(weights=share | dict.fromkeys(further, 1 / count))


def without(way: Way, member: str) -> Way | None:
    """Take a member out of a way, the other weights brought back to a sum of 1.

    Returns
    -------
    Way or None
        None where no member with a weight is left.
    """
    left = {name: weight for name, weight in way.weights.items() if name != member}
    total = sum(left.values())
    if not total:
        return None
    return way._replace(weights={name: weight / total for name, weight in left.items()})


def voters(ways: Iterable[Way]) -> list[str]:
    """Name the ways that vote; of identical ones the first alone does.

    Ways are identical where they combine the same members by the same weights in the same way. One
    member alone is the same in all of them.
    """
    first: dict[tuple, str] = {}
    for way in ways:
        if way.votes:
            kind = way.kind if len(way.weights) > 1 else ""
            first.setdefault((kind, frozenset(way.weights.items())), way.name)
    return list(first.values())


def members_of(ways: Iterable[Way]) -> list[str]:
    """List all members of some ways, each once, in order."""
    return list(dict.fromkeys(member for way in ways for member in way.weights))


def answers(block: Block, ways: Iterable[Way]) -> Block:
    """Let ways answer for a block of images.

    Parameters
    ----------
    block : dict of str to np.ndarray
        Member → softmax, float32 (images, classes).
    ways : iterable of Way
        Their members are all in the block.

    Returns
    -------
    dict of str to np.ndarray
        Name of the way → float32 (images, classes).
    """
    found = {}
    for way in ways:
        # A layer has one member, itself.
        combine = COMBINATIONS[way.kind].combine if way.kind in COMBINATIONS else mean_of
        parts = [block[member] for member in way.weights]
        found[way.name] = combine(parts, tuple(way.weights.values()))
    return found


def vote(results: Sequence[np.ndarray]) -> np.ndarray:
    """Count the votes of several results; their mean probability decides between equal counts.

    Each result gives one vote to its best class. A mean never reaches a whole vote unless all
    results agree, so the score's order is by votes first. A result that is alone has nobody to
    outvote: its probabilities stay what they are, which balancing needs.

    Parameters
    ----------
    results : sequence of np.ndarray
        One or more, float32 (images, classes) each, probabilities.

    Returns
    -------
    np.ndarray
        Votes + mean probability, float32 (images, classes); of one result its probabilities.
    """
    score = mean_of(results)
    for each in results if len(results) > 1 else ():
        score[np.arange(len(each)), each.argmax(axis=1)] += 1
    return score


def fit_weights(own: np.ndarray, steps: int = 2000, least_gain: float = 1e-9) -> np.ndarray:
    """Fit the weights of a mean to the smallest mean log loss.

    The problem is convex; it is solved by expectation-maximisation from equal weights, as in
    stacked density estimation.

    Parameters
    ----------
    own : np.ndarray
        Float (images, members): each member's probability of each image's label.
    steps : int
        The most steps.
    least_gain : float
        It ends when a step gains less mean log-likelihood than this.

    Returns
    -------
    np.ndarray
        Float64 (members,), not negative, its sum 1.

    Raises
    ------
    ValueError
        There is no image.

    References
    ----------
    Smyth and Wolpert, Linearly combining density estimators via stacking, Machine Learning 36,
    1999.
    """
    if not len(own):
        raise ValueError("weights are found on held-out images, and there is none")
    given = np.maximum(np.asarray(own, dtype=np.float64), LEAST)
    weights = np.full(given.shape[1], 1 / given.shape[1])
    before = -np.inf
    for _ in range(steps):
        mixed = given @ weights
        now = np.log(mixed).mean()
        if now - before < least_gain:
            break
        before = now
        weights *= (given / mixed[:, None]).mean(axis=0)
        weights /= weights.sum()
    return weights
