"""Cross-training of 02 and 03: networks that judge images they never saw, round after round.

A round is a few jobs in one launch. The networks' word on each image goes to the rules of
`cleaning` and `posterior`; what they decide is what the next round learns from.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from fgvc_utils import cleaning, posterior, stage
from fgvc_utils.config import CrossParams, Round
from fgvc_utils.files import write_json
from fgvc_utils.jobs import Job
from fgvc_utils.predictions import ShardWriter, finish_store
from fgvc_utils.tables import classes_of


@dataclass
class Crossing:
    """What all rounds of a stage share.

    `table` is the label table; `asked` (boolean, by its index) are the images that are judged;
    `fold` (int, by its index) says who judges them; `features` are the stores that heads learn
    from. `run` carries jobs out: by default it launches them.
    """

    cfg: CrossParams
    name: str
    table: pd.DataFrame
    inventory: pd.DataFrame
    asked: pd.Series
    fold: pd.Series
    features: list[Job] = field(default_factory=list)
    run: Callable[[list[stage.Rows], CrossParams, str], None] = stage.run_jobs

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
        classes: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Train on the rows `fit` and predict `predict` (all that are asked, by default).

        Crossed, a job a fold learns from the other folds; else one job predicts what it does not
        learn from. Returns logits by image_id, a column a class, in the order of the table.
        """
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
                ),
                stage.job_rows(
                    self.inventory,
                    target=self.table["label"] if target is None else target,
                    fit=learnt_from,
                    predict=judged,
                ),
            )
            for suffix, learnt_from, judged in pieces
        ]
        self.run(jobs, self.cfg, self.name)
        return stage.read_logits([job for job, _ in jobs], self.table["image_id"])


def pull_back(
    crossing: Crossing, positive: pd.Series, confirmed: pd.Series, logits: pd.DataFrame
) -> tuple[pd.Series, pd.DataFrame, list[dict], pd.Series]:
    """Let those negatives return whose label a network finds that learnt from the positives.

    Each round takes the next recipe of `cfg.rounds`, until nothing returns or `cfg.max_rounds` are
    done. Positives stay, unless `cfg.recheck_positives`: then every round is crossed and judges
    them too. `confirmed` are the images whose label a person has confirmed; they always stay.

    Returns the positives, each image's latest logits, a ledger row a round, and what returned last
    (boolean), all by the table's index or image_id.
    """
    cfg, asked = crossing.cfg, crossing.asked
    rounds: list[dict] = []
    returned = asked & False
    for number in range(1, cfg.max_rounds + 1):
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
        logits = pd.concat([logits.drop(verdict.index), verdict])
        now = (found if cfg.recheck_positives else positive | found) | (confirmed & asked)
        returned = now & ~positive
        rounds.append(stage.ledger_row(number, recipe.text(), positive[asked], now[asked], started))
        left_again = bool((positive & ~now).any())
        positive = now
        if not returned.any() and not left_again:
            break
    return positive, logits, rounds, returned


def within(logits: pd.DataFrame, table: pd.DataFrame, top: int) -> pd.Series:
    """Whether each row's label in force is among its `top` best classes; false where not judged.

    A `top` that reaches the number of classes would let everything pass, so at most all classes
    but one count.
    """
    ranks = stage.ranks_of_labels(logits, table)
    top = min(top, logits.shape[1] - 1)
    return (ranks.reindex(table["image_id"]) < top).set_axis(table.index)


@dataclass
class Posteriors:
    """What `posterior_rounds` learnt: by image_id, with a column a class and one for none."""

    posterior: pd.DataFrame
    probability: pd.DataFrame
    rounds: list[dict]


def posterior_rounds(
    crossing: Crossing, teaches: pd.Series, none: pd.Series, known: pd.Series
) -> Posteriors:
    """Posterior of each image's class by expectation-maximisation, the expectation out of fold.

    First the images `teaches` teach their label in force and the images `none` (left out as noise)
    that they show no class; then every image teaches its posterior, for `cfg.posterior_rounds`
    rounds, the folds cut anew each time. `known` (class name, or empty) is a person's word, which
    no posterior overrules. All are by the table's index.
    """
    cfg, table = crossing.cfg, crossing.table
    classes = [*classes_of(table), posterior.NONE]
    number_of = {name: number for number, name in enumerate(classes)}
    row_ids = table.loc[crossing.asked | none, "image_id"]
    sure = known.where(known != "", pd.Series(np.where(none, posterior.NONE, ""), table.index))
    sure_numbers = sure[row_ids.index].map(lambda name: number_of.get(name, -1)).to_numpy()
    given = table.loc[row_ids.index, "given"].map(number_of).to_numpy()
    believed = np.where(sure_numbers >= 0, sure_numbers, given)
    told = pd.Series("", index=table.index)
    told[row_ids.index] = [classes[number] for number in believed]
    fit, teacher, recipe = (teaches | none | (known != "")), None, Round()
    rounds: list[dict] = []
    before = teaches[crossing.asked]
    current = probability = None
    for number in range(cfg.posterior_rounds + 1):
        started = time.monotonic()
        if number:
            teacher = write_targets(
                Path(stage.work_folder(cfg, crossing.name, f"targets-{number}")), current
            )
            told = told.copy()
            told[row_ids.index] = current.columns[current.to_numpy().argmax(axis=1)]
            fit = crossing.asked | none
            crossing.fold = recut(crossing, number)
        logits = crossing.judge(
            f"posterior-{number}",
            recipe.model_copy(update={"seed": number}),
            fit,
            crossed=True,
            predict=crossing.asked | none,
            teacher=teacher,
            target=told,
            classes=classes,
        )
        probability = stage.as_probabilities(logits).loc[row_ids]
        value = posterior.label_posterior(probability.to_numpy(), given, cfg.trust, cfg.sharpness)
        value = posterior.fix(value, sure_numbers)
        current = pd.DataFrame(value, index=probability.index, columns=classes)
        verdict = posterior.decide(value, given, cfg.relabel_bar)["verdict"].set_axis(row_ids.index)
        kept = (verdict != "drop")[crossing.asked[crossing.asked].index]
        relabelled = int((verdict == "relabel")[kept.index].sum())
        what = "labels" if not number else "posteriors"
        rounds.append(
            stage.ledger_row(
                number, f"{what} as targets", before, kept, started, relabelled=relabelled
            )
        )
        before = kept
    return Posteriors(current, probability, rounds)


def recut(crossing: Crossing, number: int) -> pd.Series:
    """The folds of another round: cut anew, so that no image keeps the same companions."""
    table, cfg = crossing.table, crossing.cfg
    train = table["split"] == "train"
    fold = cleaning.cut_folds(
        table.loc[train, "given"], table.loc[train, "group"], cfg.folds, cfg.seed + 1000 + number
    )
    return fold.reindex(table.index, fill_value=-1)


def write_targets(folder: Path, probability: pd.DataFrame) -> Path:
    """Store soft targets as a teacher's predictions; returns the store's folder.

    `probability` has a row an image and a column a class. What a job learns hangs on its teachers'
    `done.json`, so that names the content.
    """
    store = folder / "predictions"
    values = np.log(np.maximum(probability.to_numpy(), 1e-6)).astype(np.float16)
    writer = ShardWriter(store, 0, probability.index.tolist())
    writer.write("logits", 0, values)
    writer.close()
    finish_store(store, list(probability.columns), 1)
    ids = "\n".join(probability.index).encode()
    digest = hashlib.sha256(values.tobytes() + ids).hexdigest()
    write_json({"digest": digest, "seconds": 0, "figures": {}}, folder / "done.json")
    return store


def planted_check(
    crossing: Crossing, learnt: Posteriors, none: pd.Series
) -> tuple[pd.DataFrame, dict]:
    """Plant errors among the labels, judge once more, and see how many are found.

    Returns `posterior.planted_table`, and for the decision itself a dict with `recall` (of planted
    errors), `precision`, `wrong_share` and `fine`, the number of images left out or relabelled
    that probably were right.
    """
    cfg, table = crossing.cfg, crossing.table
    asked = table.loc[crossing.asked]
    classes = list(learnt.posterior.columns)
    number_of = {name: number for number, name in enumerate(classes)}
    ids = asked["image_id"]
    given = asked["given"].map(number_of).to_numpy()
    planted = posterior.plant_errors(
        given, learnt.posterior.loc[ids].to_numpy(), cfg.planted_share, 0.5, cfg.seed
    )
    targets = learnt.posterior.copy()
    targets.loc[ids] = posterior.label_posterior(
        learnt.probability.loc[ids].to_numpy(), planted.labels, cfg.trust, cfg.sharpness
    )
    told = pd.Series("", index=table.index)
    everyone = table.loc[crossing.asked | none, "image_id"]
    told[everyone.index] = targets.columns[targets.loc[everyone].to_numpy().argmax(axis=1)]
    crossing.fold = recut(crossing, cfg.posterior_rounds + 1)
    logits = crossing.judge(
        "planted",
        Round(seed=500),
        crossing.asked | none,
        crossed=True,
        predict=crossing.asked,
        teacher=write_targets(
            Path(stage.work_folder(cfg, crossing.name, "targets-planted")), targets
        ),
        target=told,
        classes=classes,
    )
    value = posterior.label_posterior(
        stage.as_probabilities(logits).loc[ids].to_numpy(), planted.labels, cfg.trust, cfg.sharpness
    )
    flipped = np.isin(np.arange(len(given)), planted.rows)
    doubt = 1 - value[np.arange(len(given)), planted.labels]
    figures = posterior.planted_table(doubt, flipped)
    flagged = posterior.decide(value, planted.labels, cfg.relabel_bar)["verdict"].to_numpy()
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

    Columns given, suggested (a class name, or empty where the image shows none), best, sure, own
    and verdict.
    """
    asked = crossing.table.loc[crossing.asked]
    columns = learnt.posterior.columns
    numbers = columns.get_indexer(asked["given"])
    value = learnt.posterior.loc[asked["image_id"]].to_numpy()
    decided = posterior.decide(value, numbers, crossing.cfg.relabel_bar)
    decided.insert(0, "given", asked["given"].to_numpy())
    names = np.append(columns[:-1].to_numpy(dtype=object), "")
    decided.insert(1, "suggested", names[decided["best"]])
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


def rank_verdict(crossing: Crossing, logits: pd.DataFrame, kept: pd.Series) -> pd.DataFrame:
    """The decision by rank in the form of `decisions`: what is not kept is dropped.

    `sure` is the probability of the best class and `own` that of the label, by the network that
    judged the image last.
    """
    asked = crossing.table.loc[crossing.asked]
    value = stage.as_probabilities(logits).loc[asked["image_id"]]
    numbers = value.columns.get_indexer(asked["label"])
    values = value.to_numpy()
    best = values.argmax(axis=1)
    verdict = pd.DataFrame(
        {
            "given": asked["given"].to_numpy(),
            "suggested": value.columns.to_numpy(dtype=object)[best],
            "best": best,
            "sure": values.max(axis=1),
            "own": values[np.arange(len(values)), numbers],
            "verdict": np.where(kept[asked.index], "keep", "drop"),
        },
        index=value.index,
    )
    return verdict.astype({"verdict": object})


def by_worth(decided: pd.DataFrame, share: float) -> list[str]:
    """The images a person should look at first: `share` of those not kept as they came."""
    doubtful = decided[decided["verdict"] != "keep"]
    worth = posterior.worth(doubtful)
    order = np.argsort(-worth, kind="stable")
    return doubtful.index[order[: round(len(doubtful) * share)]].tolist()
