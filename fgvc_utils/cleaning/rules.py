"""The cleaning loops on tables and scores: noise, labels out of fold, classes without a subject.

Nothing here trains or shows anything; arrays come in, decisions go out.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

BLOCK = 2048


def nearest(features: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The `count` nearest images of each image by cosine similarity, copies of itself left out.

    `features` float (images, width), `groups` (images,): images of one group are copies. Returns
    int64 (images, count), nearest first. Works in blocks of rows, so memory stays bounded.

    Raises ValueError where there are not more images than neighbours.
    """
    if count >= len(features):
        raise ValueError(f"neighbours {count} needs more than {len(features)} images; lower it")
    unit = features.astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    codes = pd.factorize(groups)[0]
    found = []
    for start in range(0, len(unit), BLOCK):
        block = slice(start, start + BLOCK)
        likeness = unit[block] @ unit.T
        likeness[codes[block][:, None] == codes[None, :]] = -np.inf
        top = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(likeness, top, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(top, order, axis=1))
    return np.concatenate(found)


def label_disorder(neighbours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How little an image's surroundings agree on a label: float64 (images,), 0 to 1.

    The entropy of the neighbours' given labels over its largest possible value, averaged over the
    image's neighbours. A picture of no plant or animal lands under any class, so it lies where
    labels of all kinds meet; a picture of a species, even a mislabelled one, lies where its own and
    its sister classes prevail.
    """
    near = labels[neighbours]
    same = (near[:, :, None] == near[:, None, :]).sum(axis=2)
    # Each of n equal labels adds log(n / k) / k, so the mean over neighbours is the entropy.
    count = near.shape[1]
    entropy = -np.log(same / count).mean(axis=1) / np.log(count)
    return entropy[neighbours].mean(axis=1)


def label_agreement(neighbours: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of an image's neighbours that carry its own label: float64 (images,)."""
    return (labels[neighbours] == labels[:, None]).mean(axis=1)


def propose_picks(
    disorder: pd.Series, bootstrap: pd.Series, noise_share: float, normal_share: float
) -> pd.Series:
    """Stand-in for the hand picks of the bootstrap set where nobody has picked yet.

    Of the images in `bootstrap` (boolean) the most disordered share is proposed as noise and the
    least disordered share as normal; the doubtful ones between stay unpicked. (By hand the original
    picked about 10 % noise and 70 % normal; a score needs a wider gap between the two, for the
    share of noise is not known.) Returns text by image: `noise`, `normal` or empty.

    Raises ValueError where the two shares overlap or the bootstrap set gives no pick of a kind.
    """
    if noise_share + normal_share > 1:
        raise ValueError("propose_noise and propose_normal add up to more than 1; lower one")
    ranked = disorder[bootstrap].sort_values(ascending=False, kind="stable").index
    noise = round(len(ranked) * noise_share)
    normal = round(len(ranked) * normal_share)
    if not noise or not normal:
        raise ValueError(
            f"only {len(ranked)} images are not three-channel, too few to propose picks from; "
            "pick some images in the gallery, or raise propose_noise and propose_normal"
        )
    picks = pd.Series("", index=disorder.index, dtype=object)
    picks[ranked[:noise]] = "noise"
    picks[ranked[len(ranked) - normal :]] = "normal"
    return picks


def confirm_noise(flagged: pd.Series, agreement: pd.Series, most: float) -> pd.Series:
    """Which flags of a noise model that no person taught hold: bool, by the index of `flagged`.

    A picture of nothing comes under any label, so its neighbours seldom carry its own. `agreement`
    is `label_agreement` by image. Where the flagged images find their label among their neighbours
    more than `most` times as often as the others do, the model learnt something else than noise,
    and no flag holds. Else they hold, but for images that agree with their neighbours as well as
    the images that were not flagged.
    """
    if not flagged.any() or flagged.all():
        return flagged & False
    others = agreement[~flagged].mean()
    if agreement[flagged].mean() > most * others:
        return flagged & False
    return flagged & (agreement <= others)


def feed_back(
    picks: pd.Series, probability: pd.Series, threshold: float, normal_threshold: float
) -> pd.Series:
    """Add what the noise model is sure of to the picks it learns from next.

    Images with p(noise) over `threshold` join the noise; the surest normal ones, under
    `normal_threshold`, join the normal, as many as make the two sides keep their proportion.
    Existing picks stay.
    """
    grown = picks.copy()
    free = picks == ""
    new_noise = free & (probability > threshold)
    grown[new_noise] = "noise"
    per_noise = (picks == "normal").sum() / max(1, (picks == "noise").sum())
    wanted = round(new_noise.sum() * per_noise)
    sure = probability[free & (probability < normal_threshold)]
    grown[sure.sort_values(kind="stable").index[:wanted]] = "normal"
    return grown


def audit_interval(noise: int, looks: int, confidence: float = 0.95) -> tuple[float, float]:
    """Share of noise in a random sample: two-sided exact interval (Clopper and Pearson, 1934).

    With no noise among 299 looks the one-sided 95 % bound is 1 %; the two-sided one is 1.2 %.
    """
    from scipy.stats import binomtest

    interval = binomtest(noise, looks).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def audit_bound(noise: int, looks: int, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of the share of noise; 1 without looks."""
    from scipy.stats import binomtest

    if not looks:
        return 1.0
    test = binomtest(noise, looks, alternative="less")
    return float(test.proportion_ci(confidence, method="exact").high)


def audit_summary(decisions: Mapping[str, str]) -> str:
    """What an audit's looks (item → `noise` or `normal`) say of the residual noise, in a line."""
    looks, found = len(decisions), sum(said == "noise" for said in decisions.values())
    if not looks:
        return "nobody has looked yet: the residual noise is unknown"
    low, high = audit_interval(found, looks)
    return (
        f"{looks} looks, {found} noise; residual noise {low:.1%} to {high:.1%} (95 %), "
        f"one-sided bound {audit_bound(found, looks):.1%}"
    )


def count_decisions(decisions: Mapping[str, str]) -> str:
    """How many of each decision there are, such as `40 noise, 35 normal`."""
    counted = Counter(decisions.values())
    return ", ".join(f"{count} {name}" for name, count in sorted(counted.items()))


def cut_folds(labels: pd.Series, groups: pd.Series, folds: int, seed: int) -> pd.Series:
    """Cut images into folds of equal size, each class spread evenly, a group in one fold.

    `labels` and `groups` share an index. Each class deals its groups to the folds in turn, in an
    order drawn by `seed`, and goes on where the class before it stopped. Returns int64.
    """
    frame = pd.DataFrame({"label": labels, "group": groups})
    heads = frame.drop_duplicates("group").sort_values("group", kind="stable")
    drawn = heads.iloc[np.random.default_rng(seed).permutation(len(heads))]
    dealt = drawn.sort_values("label", kind="stable")
    fold_of = pd.Series(np.arange(len(dealt)) % folds, index=dealt["group"].to_numpy())
    return frame["group"].map(fold_of).astype("int64")


def apply_decisions(table: pd.DataFrame, decisions: pd.DataFrame, stage: str) -> pd.DataFrame:
    """Put a person's decisions into the table; they beat every rule.

    `decisions` is indexed by image_id with the columns decision (`keep`, `drop`, `relabel`,
    `noise`, `normal`) and label. Test images are never touched.

    Raises ValueError naming an image or a class that the table does not know.
    """
    table = table.copy()
    strangers = set(decisions.index) - set(table["image_id"])
    if strangers:
        raise ValueError(
            f"the journal of {stage} decides on image {sorted(strangers)[0]!r}, which the table "
            "does not have; is this journal of another contest?"
        )
    classes = set(table["given"])
    row_of = pd.Series(table.index, index=table["image_id"])
    train = table["split"] == "train"
    for image_id, decision in decisions.iterrows():
        row = row_of[image_id]
        if not train[row]:
            continue
        what, label = decision["decision"], decision["label"]
        if what in ("keep", "normal"):
            table.loc[row, ["status", "stage", "reason"]] = ["keep", stage, "human: kept"]
            if what == "keep":
                # The label that was shown is the one the image came with.
                table.loc[row, "label"] = table.loc[row, "given"]
        elif what in ("drop", "noise"):
            table.loc[row, ["status", "stage", "reason"]] = ["drop", stage, f"human: {what}"]
        elif what == "relabel":
            if label not in classes:
                raise ValueError(
                    f"the journal of {stage} gives image {image_id!r} the label {label!r}, "
                    "which is no class of this contest"
                )
            changes = ["keep", stage, "human: relabelled", label]
            table.loc[row, ["status", "stage", "reason", "label"]] = changes
    return table


def looks_against_rule(decisions: pd.DataFrame) -> pd.DataFrame:
    """What people said of images beside what the rule had said when they looked.

    `decisions` as of `Journal.latest`, whose `shown` begins with the rule's word (keep, drop or
    relabel) and a colon. Rows: the rule's word; columns: the person's, where `relabel` with
    another class than the first suggestion counts as `another class`. Cells count images.
    """
    if decisions.empty:
        return pd.DataFrame()
    rule = decisions["shown"].str.partition(":")[0]
    first = decisions["shown"].str.partition("→ ")[2]
    theirs = decisions["decision"].astype(object)
    taken = [text.startswith(label) for text, label in zip(first, decisions["label"], strict=True)]
    theirs[(theirs == "relabel") & ~np.array(taken, bool)] = "another class"
    known = rule.isin(["keep", "drop", "relabel"])
    if not known.any():
        return pd.DataFrame()
    return pd.crosstab(rule[known].rename("the rule said"), theirs[known].rename("a person said"))


def class_agreement(
    neighbours: np.ndarray, labels: np.ndarray, considered: np.ndarray
) -> pd.DataFrame:
    """How far each class's images agree on a subject: a row a class, index `label`.

    `agreement` is the mean share of an image's neighbours with the image's own label, of at most
    class size - 1 neighbours; `images` counts. Only images where `considered` is true are judged;
    a class of one image agrees with nothing it could be asked about, and gets no number.
    """
    frame = pd.DataFrame({"label": labels, "row": np.arange(len(labels))})[considered]
    rows = []
    for label, members in frame.groupby("label")["row"]:
        usable = min(neighbours.shape[1], len(members) - 1)
        near = labels[neighbours[members.to_numpy()][:, :usable]] if usable else None
        agreement = float((near == label).mean()) if usable else float("nan")
        rows.append((label, len(members), agreement))
    return pd.DataFrame(rows, columns=["label", "images", "agreement"]).set_index("label")
