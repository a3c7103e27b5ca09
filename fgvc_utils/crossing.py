"""Cross-training of 02 and 03: networks that judge images they never saw, round after round.

A round is a few jobs in one launch. The networks' word on each image goes to the rules of
`cleaning` and `posterior`; what they decide is what the next round learns from.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils import cleaning, posterior, stage, tables
from fgvc_utils.config import CrossParams, Round
from fgvc_utils.files import write_json
from fgvc_utils.jobs import Job
from fgvc_utils.posterior import SparsePosterior
from fgvc_utils.predictions import ShardWriter, Store, finish_store
from fgvc_utils.reduction import TOP, Reduced, read_reduced
from fgvc_utils.tables import classes_of


@dataclass
class Crossing:
    """What all rounds of a stage share.

    `table` is the label table; `asked` (boolean, by its index) are the images that are judged;
    `fold` (int, by its index) says who judges them; `features` are the stores that heads learn
    from. `run` carries jobs out: by default it launches them. Of each image's probabilities the
    `top` largest are kept.
    """

    cfg: CrossParams
    name: str
    table: pd.DataFrame
    inventory: pd.DataFrame
    asked: pd.Series
    fold: pd.Series
    features: list[Job] = field(default_factory=list)
    run: Callable[[list[stage.Rows], CrossParams, str], None] = stage.run_jobs
    top: int = TOP

    def judge(
        self,
        name: str,
        recipe: Round,
        fit: pd.Series,
        *,
        crossed: bool,
        predict: pd.Series | None = None,
        teacher: Path | None = None,
        target: pd.Series | None = None,
        label: pd.Series | None = None,
        classes: Sequence[str] | None = None,
    ) -> Reduced:
        """Train on the rows `fit` and predict `predict` (all that are asked, by default).

        Crossed, a job a fold learns from the other folds; else one job predicts what it does not
        learn from. `target` is what an image teaches and `label` what it is judged under; both are
        the label in force by default. Returns what was said of the images, in the table's order.
        """
        target = self.table["label"] if target is None else target
        predict = self.asked if predict is None else predict
        pieces = [("", fit, predict & ~fit)]
        if crossed:
            numbers = sorted(set(self.fold[predict]))
            pieces = [
                (f"-fold-{k}", fit & (self.fold != k), predict & (self.fold == k)) for k in numbers
            ]
        jobs = [
            (
                stage.cleaning_job(
                    self.cfg,
                    self.name,
                    name + suffix,
                    list(classes or classes_of(self.table)),
                    self.features,
                    recipe=recipe,
                    teacher=teacher,
                    seed=self.cfg.seed + recipe.seed,
                    reduce_to=self.top,
                ),
                stage.job_rows(
                    self.inventory,
                    target=target,
                    label=self.table["label"] if label is None else label,
                    fit=learnt_from,
                    predict=judged,
                ),
            )
            for suffix, learnt_from, judged in pieces
        ]
        self.run(jobs, self.cfg, self.name)
        return read_reduced([Store(job.store) for job, _ in jobs], self.table["image_id"])


def pull_back(
    crossing: Crossing,
    positive: pd.Series,
    confirmed: pd.Series,
    said: Reduced,
    rounds_before: int = 0,
) -> tuple[pd.Series, Reduced, list[dict], pd.Series]:
    """Let those negatives return whose label a network finds that learnt from the positives.

    Each round takes the next recipe of `cfg.rounds`, until nothing returns or `cfg.max_rounds` are
    done. Positives stay, unless `cfg.recheck_positives`: then every round is crossed and judges
    them too. `confirmed` are the images whose label a person has confirmed; they always stay.
    `said` is the networks' word so far.

    Returns the positives, the latest word on each image, a ledger row a round, and what returned
    last (boolean), by the table's index.
    """
    cfg, asked = crossing.cfg, crossing.asked
    rounds: list[dict] = []
    returned = asked & False
    for number in range(rounds_before + 1, rounds_before + cfg.max_rounds + 1):
        negative = asked & ~positive
        if not negative.any() or not positive.any():
            break
        started = time.monotonic()
        recipe = cfg.rounds[(number - 1) % len(cfg.rounds)]
        verdict = crossing.judge(
            f"pull-back-{number}",
            recipe,
            positive,
            crossed=cfg.recheck_positives,
            predict=asked if cfg.recheck_positives else negative,
        )
        found = within(verdict, crossing.table, cfg.top)
        said = said.updated(verdict)
        now = (found if cfg.recheck_positives else positive | found) | (confirmed & asked)
        returned = now & ~positive
        rounds.append(stage.ledger_row(number, recipe.text(), positive[asked], now[asked], started))
        left_again = bool((positive & ~now).any())
        positive = now
        if not returned.any() and not left_again:
            break
    return positive, said, rounds, returned


def within(said: Reduced, table: pd.DataFrame, top: int) -> pd.Series:
    """Whether each row's label is among its `top` best classes; false where nobody judged it.

    A `top` that reaches the number of classes would let everything pass, so at most all classes
    but one count.
    """
    ranks = pd.Series(said.label_rank, said.image_ids)
    top = min(top, len(said.classes) - 1)
    return (ranks.reindex(table["image_id"]) < top).set_axis(table.index)


@dataclass
class Judgement:
    """What a stage says of the images asked.

    `verdict` has a row an image, as `decisions` gives it; `rounds` are ledger rows; `returned`
    (boolean, by the table's index) tells what came back last. `positive` and `said` are what the
    rule by rank goes on from, `learnt` what the rule by posterior learnt.
    """

    verdict: pd.DataFrame
    rounds: list[dict]
    returned: pd.Series
    positive: pd.Series | None = None
    said: Reduced | None = None
    learnt: "Posteriors | None" = None


def judge_labels(
    crossing: Crossing, none: pd.Series, known: pd.Series, earlier: Judgement | None = None
) -> Judgement:
    """Judge the labels of the images asked by the stage's rule, `rank` or `posterior`.

    `none` (boolean) are images that 01 left out as noise, `known` (class name, or empty) is a
    person's word; both by the table's index. With an `earlier` judgement the rule goes on from it:
    what a person has confirmed since teaches the rounds that follow. The only image of a class
    stays under its label: no other image could teach a network to confirm it.

    Raises ValueError where no image is asked.
    """
    if not crossing.asked.any():
        raise ValueError(
            f"no image is left for {crossing.name} to judge: look at what the stages before it "
            "left out, and why"
        )
    only = only_of_their_class(crossing.table, crossing.asked)
    known = known.where(~only | (known != ""), crossing.table["given"])
    if crossing.cfg.rule == "rank":
        return _judge_by_rank(crossing, known != "", earlier)
    before = tables.kept(crossing.table) if earlier is None else _kept_by(crossing, earlier)
    learnt = posterior_rounds(crossing, before, none, known, earlier and earlier.learnt)
    verdict = decisions(crossing, learnt)
    was_out = crossing.asked & ~before
    stays = verdict.index[verdict["verdict"] != "drop"]
    returned = was_out & crossing.table["image_id"].isin(stays)
    return Judgement(verdict, learnt.rounds, returned, learnt=learnt)


def only_of_their_class(table: pd.DataFrame, asked: pd.Series) -> pd.Series:
    """Which of the images asked have no other image, copies aside, under their label (boolean)."""
    groups = table.loc[asked].groupby("label")["group"].nunique()
    return asked & table["label"].map(groups).eq(1)


def _kept_by(crossing: Crossing, judgement: Judgement) -> pd.Series:
    stays = judgement.verdict.index[judgement.verdict["verdict"] != "drop"]
    return crossing.asked & crossing.table["image_id"].isin(stays)


def _judge_by_rank(
    crossing: Crossing, confirmed: pd.Series, earlier: Judgement | None
) -> Judgement:
    cfg, asked = crossing.cfg, crossing.asked
    if earlier is None:
        started = time.monotonic()
        said = crossing.judge("fold", Round(), asked, crossed=True)
        positive = asked & (within(said, crossing.table, cfg.top) | confirmed)
        rounds = [stage.ledger_row(0, f"{cfg.folds} folds", asked[asked], positive[asked], started)]
    else:
        said, rounds = earlier.said, earlier.rounds
        positive = asked & (earlier.positive | confirmed)
    positive, said, more, returned = pull_back(
        crossing, positive, confirmed, said, rounds_before=rounds[-1]["round"]
    )
    verdict = rank_verdict(crossing, said, positive)
    return Judgement(verdict, [*rounds, *more], returned, positive, said)


def once_more(crossing: Crossing, table: pd.DataFrame, earlier: Judgement) -> Judgement:
    """Go on from a judgement, with what a person has decided since in the table."""
    judged, none = judged_and_none(table)
    asked = crossing.asked & (tables.kept(table) if crossing.cfg.rule == "rank" else judged)
    again = replace(crossing, table=table, asked=asked)
    return judge_labels(again, none, confirmed_classes(table), earlier)


@dataclass
class Posteriors:
    """What `posterior_rounds` learnt; rows of `posterior` are those of `said`, in its order."""

    posterior: SparsePosterior
    said: Reduced
    rounds: list[dict]

    def of(self, image_ids: Sequence[str]) -> SparsePosterior:
        """The posterior of some images, in their order."""
        return self.posterior.rows(self.said.image_ids.get_indexer(pd.Index(image_ids)))


def posterior_rounds(
    crossing: Crossing,
    teaches: pd.Series,
    none: pd.Series,
    known: pd.Series,
    earlier: Posteriors | None = None,
) -> Posteriors:
    """Posterior of each image's class by expectation-maximisation, the expectation out of fold.

    First the images `teaches` teach their label in force and the images `none` (left out as noise)
    that they show no class; then every image teaches its posterior, for `cfg.posterior_rounds`
    rounds, the folds cut anew each time. `known` (class name, or empty) is a person's word, which
    no posterior overrules. All are by the table's index. With `earlier` posteriors the rounds go on
    from those. Each round teaches the next; what counts is the mean of the last
    `cfg.averaged_rounds` that learnt from posteriors.
    """
    cfg, table = crossing.cfg, crossing.table
    classes = [*classes_of(table), posterior.NONE]
    number_of = {name: number for number, name in enumerate(classes)}
    row_ids = table.loc[crossing.asked | none, "image_id"]
    sure = known.where(known != "", pd.Series(np.where(none, posterior.NONE, ""), table.index))
    sure_numbers = sure[row_ids.index].map(lambda name: number_of.get(name, -1)).to_numpy()
    given = table.loc[row_ids.index, "given"].map(number_of).to_numpy()
    told, names = pd.Series("", index=table.index), np.array(classes, object)
    told[row_ids.index] = names[np.where(sure_numbers >= 0, sure_numbers, given)]
    fit, teacher, recipe = (teaches | none | (known != "")), None, Round()
    rounds: list[dict] = list(earlier.rounds) if earlier else []
    before = teaches[crossing.asked]
    current = earlier.of(row_ids).fixed(sure_numbers) if earlier else None
    latest: list[SparsePosterior] = []
    first = len(rounds)
    for number in range(first, first + cfg.posterior_rounds + (not first)):
        started = time.monotonic()
        if current is not None:
            teacher = _targets_folder(crossing, str(number))
            write_targets(teacher, classes, row_ids, current)
            told = told.copy()
            told[row_ids.index] = names[current.best()]
            fit = crossing.asked | none
        crossing.fold = recut(crossing, number)
        said = crossing.judge(
            f"posterior-{number}",
            recipe.model_copy(update={"seed": number}),
            fit,
            crossed=True,
            predict=crossing.asked | none,
            teacher=teacher,
            target=told,
            label=table["given"],
            classes=classes,
        ).of(row_ids)
        current = posterior.label_posterior(said, given, cfg.trust, cfg.sharpness)
        current = current.fixed(sure_numbers)
        # Networks that learnt from the labels as they came know less than all later ones.
        latest = [*(latest if number > 1 else []), current][-cfg.averaged_rounds :]
        together = posterior.mean(latest)
        verdict = posterior.decide(together, given, len(classes) - 1, cfg.relabel_bar)["verdict"]
        verdict = verdict.set_axis(row_ids.index)[crossing.asked[crossing.asked].index]
        kept = verdict != "drop"
        what = "labels" if not number else "posteriors"
        rounds.append(
            stage.ledger_row(
                number,
                f"{what} as targets",
                before,
                kept,
                started,
                relabelled=int((verdict == "relabel").sum()),
            )
        )
        before = kept
    return Posteriors(together, said, rounds)


def recut(crossing: Crossing, number: int) -> pd.Series:
    """The folds of another round: cut anew, so that no image keeps the same companions."""
    table, cfg = crossing.table, crossing.cfg
    train = table["split"] == "train"
    fold = cleaning.cut_folds(
        table.loc[train, "given"], table.loc[train, "group"], cfg.folds, cfg.seed + 1000 + number
    )
    return fold.reindex(table.index, fill_value=-1)


def _targets_folder(crossing: Crossing, name: str) -> Path:
    return Path(stage.work_folder(crossing.cfg, crossing.name, f"targets-{name}")) / "predictions"


def write_targets(
    store: Path, classes: Sequence[str], image_ids: Sequence[str], told: SparsePosterior
) -> None:
    """Store soft targets as a teacher's: `target_classes` int32, `target_probabilities` float16.

    Both are (images, width). What a job learns hangs on its teachers' `done.json`, so that names
    the content.
    """
    values = told.values.astype(np.float16)
    (store.parent / "done.json").unlink(missing_ok=True)
    writer = ShardWriter(store, 0, image_ids)
    writer.write("target_classes", 0, told.columns)
    writer.write("target_probabilities", 0, values)
    writer.close()
    finish_store(store, classes, 1)
    digest = hashlib.sha256("\n".join(image_ids).encode())
    digest.update(told.columns.tobytes() + values.tobytes())
    write_json({"result": digest.hexdigest()}, store.parent / "done.json")


def planted_check(
    crossing: Crossing, learnt: Posteriors, none: pd.Series
) -> tuple[pd.DataFrame, dict]:
    """Plant errors among the labels, judge once more, and see how many are found.

    Returns `posterior.planted_table`, and for the decision itself a dict with `recall` (of planted
    errors), `precision`, `wrong_share` and `fine`, the number of images left out or relabelled
    that probably were right.
    """
    cfg, table = crossing.cfg, crossing.table
    classes = learnt.said.classes
    count = len(classes) - 1
    everyone = table.loc[crossing.asked | none, "image_id"]
    number_of = {name: number for number, name in enumerate(classes)}
    given = table.loc[everyone.index, "given"].map(number_of).to_numpy()
    asked = crossing.asked[everyone.index].to_numpy()
    planted = posterior.plant_errors(
        given[asked], learnt.of(everyone[asked]), count, cfg.planted_share, 0.5, cfg.seed
    )
    labels = given.copy()
    labels[asked] = planted.labels
    before = learnt.said.of(everyone)
    targets = posterior.label_posterior(
        before, labels, cfg.trust, cfg.sharpness, before.probability_of(labels)
    )
    # Noise that 01 left out keeps teaching that it shows no class.
    targets = targets.fixed(np.where(asked, -1, count))
    teacher = _targets_folder(crossing, "planted")
    write_targets(teacher, classes, everyone, targets)
    names = np.array(classes, object)
    told, shown = pd.Series("", table.index), pd.Series("", table.index)
    told[everyone.index], shown[everyone.index] = names[targets.best()], names[labels]
    crossing.fold = recut(crossing, len(learnt.rounds))
    said = crossing.judge(
        "planted",
        Round(seed=500),
        crossing.asked | none,
        crossed=True,
        predict=crossing.asked,
        teacher=teacher,
        target=told,
        label=shown,
        classes=classes,
    ).of(everyone[asked])
    value = posterior.label_posterior(said, planted.labels, cfg.trust, cfg.sharpness)
    flipped = np.isin(np.arange(asked.sum()), planted.rows)
    figures = posterior.planted_table(1 - value.of(planted.labels), flipped)
    flagged = posterior.decide(value, planted.labels, count, cfg.relabel_bar)["verdict"].to_numpy()
    return figures, posterior.planted_estimate(
        flagged != "keep", flipped, float(figures["wrong_share"].iloc[0])
    )


def judged_and_none(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Which images a posterior judges, and which ones teach it what shows no class (both boolean).

    Judged is every train image that 01 let pass, those that a later rule left out too, save what a
    person left out. What 01 left out as noise, by rule or by hand, teaches "none of the classes".
    """
    train, dropped = table["split"] == "train", table["status"] == "drop"
    by_hand = dropped & table["reason"].str.startswith("human:")
    in_first = dropped & (table["stage"] == "01_noise")
    none = train & in_first & table["reason"].str.contains("noise")
    return train & ~in_first & ~by_hand, none


def confirmed_classes(table: pd.DataFrame) -> pd.Series:
    """The class that a person confirmed or set for an image, else empty; by the table's index."""
    said = (table["status"] == "keep") & table["reason"].str.startswith("human:")
    return table["label"].where(said, "")


def decisions(crossing: Crossing, learnt: Posteriors) -> pd.DataFrame:
    """What `posterior.decide` says of the images asked, by image_id.

    Columns given, suggested (a class name, or empty where the image shows none), best, sure, own,
    none and verdict.
    """
    asked = crossing.table.loc[crossing.asked]
    classes = learnt.said.classes
    numbers = pd.Index(classes).get_indexer(asked["given"])
    value = learnt.of(asked["image_id"])
    decided = posterior.decide(value, numbers, len(classes) - 1, crossing.cfg.relabel_bar)
    decided.insert(0, "given", asked["given"].to_numpy())
    decided.insert(1, "suggested", np.array([*classes[:-1], ""], object)[decided["best"]])
    return decided.set_index(asked["image_id"].to_numpy())


def apply(table: pd.DataFrame, decided: pd.DataFrame, name: str, relabel: bool) -> pd.DataFrame:
    """Put the decisions into the table; without `relabel` a better label is only suggested.

    An image that an earlier stage left out returns where its label turns out to be right or, with
    `relabel`, where another class is sure.
    """
    table = table.copy()
    rows = table.index[table["image_id"].isin(decided.index)]
    verdict = decided.loc[table.loc[rows, "image_id"]].set_axis(rows)
    table.loc[rows, "suggested"] = verdict["suggested"]
    table.loc[rows, "score"] = verdict["sure"].astype(float)
    taken = verdict["verdict"] == "relabel" if relabel else verdict["verdict"] == "never"
    table.loc[rows[taken], "label"] = verdict.loc[taken, "suggested"]
    untouched = verdict["verdict"].eq("keep") & table.loc[rows, "status"].eq("keep")
    stays = verdict["verdict"].eq("keep") | taken
    table.loc[rows, "status"] = np.where(stays, "keep", "drop")
    reason = np.select(
        [taken, stays, verdict["suggested"] == ""],
        ["label: taken from the posterior", "label: returned by its posterior", "label: no class"],
        "label: another class is likelier",
    )
    changed = rows[~untouched]
    table.loc[changed, "stage"] = name
    table.loc[changed, "reason"] = pd.Series(reason, rows)[changed]
    return table


def rank_verdict(crossing: Crossing, said: Reduced, kept: pd.Series) -> pd.DataFrame:
    """The decision by rank in the form of `decisions`: what is not kept is dropped.

    `sure` is the probability of the best class and `own` that of the label, by the network that
    judged the image last. These networks do not know "none of the classes"; how unsure they are of
    any stands for it.
    """
    asked = crossing.table.loc[crossing.asked]
    said = said.of(asked["image_id"])
    best = said.top_classes[:, 0]
    verdict = pd.DataFrame(
        {
            "given": asked["given"].to_numpy(),
            "suggested": np.array(said.classes, object)[best],
            "best": best,
            "sure": said.top_probabilities[:, 0].astype(np.float32),
            "own": said.label_probability.astype(np.float32),
            "none": 1 - said.top_probabilities[:, 0].astype(np.float32),
            "verdict": np.where(kept[asked.index], "keep", "drop"),
        },
        index=said.image_ids,
    )
    return verdict.astype({"verdict": object})


def review_order(verdict: pd.DataFrame, seen: Sequence[str], share: float) -> tuple[list[str], int]:
    """The images not kept as they came, by the worth of a look, and how many are asked for.

    `seen` are those that somebody has decided on already; they stand first, so that they can be
    seen and changed, and count towards the `share` of the negatives that is asked for.
    """
    known = set(seen)
    doubtful = verdict[verdict["verdict"] != "keep"]
    by_worth = doubtful.index[np.argsort(-posterior.worth(doubtful), kind="stable")]
    fresh = [image for image in by_worth if image not in known]
    wanted = round((len(seen) + len(fresh)) * share)
    return [*seen, *fresh], max(wanted, len(seen))


def suggestions(
    judgement: Judgement, image_ids: Sequence[str], count: int = 5
) -> dict[str, list[tuple[str, float]]]:
    """What images may show: image_id → (class, probability), the likeliest first.

    "None of the classes" is not among them; the probabilities are what is left beside it. Images
    that the judgement does not know are left out.
    """
    said = judgement.said if judgement.learnt is None else judgement.learnt.said
    known = [image for image in image_ids if image in said.image_ids]
    if judgement.learnt is None:
        told = said.of(known)
        columns, values = told.top_classes, told.top_probabilities
    else:
        told = judgement.learnt.of(known)
        columns, values = told.columns, told.values
    names = np.array(said.classes, object)
    order = np.argsort(-values.astype(np.float32), axis=1, kind="stable")[:, : count + 1]
    columns = np.take_along_axis(columns, order, axis=1)
    values = np.take_along_axis(values, order, axis=1).astype(float)
    found = {}
    for image, found_names, shares in zip(known, names[columns], values, strict=True):
        pairs = [(name, share) for name, share in zip(found_names, shares, strict=True) if share]
        found[image] = [pair for pair in pairs if pair[0] != posterior.NONE][:count]
    return found
