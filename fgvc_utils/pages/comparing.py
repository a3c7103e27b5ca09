"""How two runs differ: parameters, tables, models on the same held-out images, answers."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fgvc_utils.contest.tables import HUMAN
from fgvc_utils.core.intervals import paired_difference
from fgvc_utils.core.reading import read_parquet
from fgvc_utils.jobs.predictions import BLOCK, Store, is_whole
from fgvc_utils.jobs.rows import ROW_COLUMNS
from fgvc_utils.pages.answers import answers_in_force
from fgvc_utils.pages.figures import ENSEMBLE, PLACES, of_several_steps, versions
from fgvc_utils.pages.runs import Run

VOTE = "vote"
# How an image stands in two runs.
SAME, ONLY_ONE, ONLY_OTHER, OTHER_LABEL = "same", "only one", "only other", "other label"
# A parameter that a step does not have.
ABSENT = "(not there)"


class NotComparable(ValueError):
    """Two runs share nothing that could be compared."""


def require_one_contest(one: Run, other: Run) -> None:
    """Make sure that two runs list images in common, as far as both have a table.

    Raises
    ------
    NotComparable
        They are one and the same folder, or share no image.
    """
    if one.folder.resolve() == other.folder.resolve():
        raise NotComparable(f"{one.folder} is named twice; name two runs")
    for run in (one, other):
        if not run.tables:
            raise NotComparable(
                f"{run.folder} has no table of labels yet: run 01_noise of it first"
            )
    first, second = (_train_images(run) for run in (one, other))
    if not first.isin(second).any():
        raise NotComparable(
            f"{one.folder} and {other.folder} share no train image: they are runs of different "
            "contests, or of listings that call the images otherwise"
        )


def _train_images(run: Run) -> pd.Index:
    table = run.table(run.tables[0])
    return table.index[table["split"] == "train"]


def parameters(one: Run, other: Run) -> list[dict[str, Any]]:
    """The parameters of steps of one name that differ, and steps that one run alone has.

    Returns
    -------
    list of dict
        A row each: `step`, or several of them, `name` (empty for a step that one run alone has),
        `one` and `other`.
    """
    rows = []
    for step in sorted(one.stamps.keys() | other.stamps.keys()):
        if step not in one.stamps or step not in other.stamps:
            said = ["done" if step in run.stamps else ABSENT for run in (one, other)]
            rows.append({"step": step, "name": "", "one": said[0], "other": said[1]})
            continue
        first, second = one.parameters(step), other.parameters(step)
        for name in sorted(first.keys() | second.keys()):
            usual = one.facts(step).usual.get(name, ABSENT)
            # A parameter that came later was then as its default is.
            values = [values.get(name, usual) for values in (first, second)]
            if name not in (*PLACES, "name") and values[0] != values[1]:
                rows.append({"step": step, "name": name, "one": values[0], "other": values[1]})
    return of_several_steps(rows)


def made_with(one: Run, other: Run) -> list[dict[str, Any]]:
    """What else made the runs: versions of packages, and steps whose code differs.

    Returns
    -------
    list of dict
        A row each: `what`, `one` and `other`.
    """
    rows: list[dict[str, Any]] = []
    of_run = [versions(run) for run in (one, other)]
    for name in sorted(of_run[0].keys() | of_run[1].keys()):
        said = [each.get(name, ABSENT) for each in of_run]
        if said[0] != said[1]:
            rows.append({"what": name, "one": said[0], "other": said[1]})
    for step in sorted(one.stamps.keys() & other.stamps.keys()):
        codes = [run.stamps[step].get("code", {}) for run in (one, other)]
        names = codes[0].keys() | codes[1].keys()
        changed = sum(codes[0].get(name) != codes[1].get(name) for name in names)
        if changed:
            texts = [f"{len(code)} parts of code" for code in codes]
            what = f"code of {step}, {changed} differ"
            rows.append({"what": what, "one": texts[0], "other": texts[1]})
    return rows


def sides(one: Run, other: Run, stage: str) -> pd.DataFrame:
    """How each train image of both runs stands after a stage.

    Parameters
    ----------
    one, other : Run
        The runs.
    stage : str
        The stage whose tables are compared.

    Returns
    -------
    pd.DataFrame
        Indexed by image_id: `given`; `side`, one of `SAME`, `ONLY_ONE` (kept in the first run
        alone), `ONLY_OTHER` and `OTHER_LABEL` (kept in both, under different labels); and `label`,
        `cause`, `stage` and `by` of each run, with the suffixes _one and _other.
    """
    columns = ["given", "status", "label", "cause", "stage", "by"]
    first, second = (
        table.loc[table["split"] == "train", columns]
        for table in (run.table(stage) for run in (one, other))
    )
    both = first.add_suffix("_one").join(second.add_suffix("_other"), how="inner")
    kept_one, kept_other = both["status_one"] == "keep", both["status_other"] == "keep"
    side = pd.Series(SAME, both.index, dtype=object)
    side[kept_one & ~kept_other] = ONLY_ONE
    side[~kept_one & kept_other] = ONLY_OTHER
    side[kept_one & kept_other & (both["label_one"] != both["label_other"])] = OTHER_LABEL
    return both.assign(side=side, given=both["given_one"])


def stage_rows(one: Run, other: Run) -> list[dict[str, Any]]:
    """How many train images stand alike, stage by stage, of the stages that both runs have.

    Returns
    -------
    list of dict
        A row a stage: `stage`; `images` that both list; `one` and `other`, the images that each
        keeps; `only_one`, `only_other`, `other_label`; and `by_people`, how many of those that
        differ a person decided on in either run.
    """
    rows = []
    for stage in common_stages(one, other):
        found = sides(one, other, stage)
        counted = found["side"].value_counts()
        differ = found[found["side"] != SAME]
        by_people = (differ["by_one"] == HUMAN) | (differ["by_other"] == HUMAN)
        rows.append(
            {
                "stage": stage,
                "images": len(found),
                "one": int((found["status_one"] == "keep").sum()),
                "other": int((found["status_other"] == "keep").sum()),
                "only_one": int(counted.get(ONLY_ONE, 0)),
                "only_other": int(counted.get(ONLY_OTHER, 0)),
                "other_label": int(counted.get(OTHER_LABEL, 0)),
                "by_people": int(by_people.sum()),
            }
        )
    return rows


def common_stages(one: Run, other: Run) -> list[str]:
    """The stages whose table both runs have, in order."""
    return [stage for stage in one.tables if stage in other.tables]


def listed_apart(one: Run, other: Run) -> dict[str, list[str]]:
    """The images that one run alone lists: `one` and `other`, ids in the order of the listing."""
    first, second = (run.table(run.tables[0]).index for run in (one, other))
    return {
        "one": first[~first.isin(second)].tolist(),
        "other": second[~second.isin(first)].tolist(),
    }


def model_answers(run: Run, name: str) -> pd.DataFrame:
    """What a model answered for the images that were held out from it.

    Returns
    -------
    pd.DataFrame
        Indexed by image_id, columns truth (the label in force when it was trained) and answer.
    """
    folder = run.folder / "models" / name
    rows = read_parquet(folder / "rows.parquet", "make that model again", ROW_COLUMNS)
    judged = rows[rows["validate"]].set_index("image_id")["target"]
    return _answered(Store(folder / "predictions"), "logits", judged)


def vote_answers(run: Run) -> pd.DataFrame:
    """What the vote of 30 answered for held-out images, as `model_answers`."""
    store = Store(run.folder / "ensemble" / VOTE)
    table = run.table(run.parameters(ENSEMBLE).get("table", run.tables[-1]))
    kept = table[(table["split"] == "train") & (table["status"] == "keep")]
    judged = kept.loc[kept.index.isin(store.image_ids), "label"]
    return _answered(store, "scores", judged)


def _answered(store: Store, kind: str, judged: pd.Series) -> pd.DataFrame:
    """The best class of each judged image that a store holds, a block of rows at a time."""
    judged = judged[judged.index.isin(store.image_ids)]
    rows = store.rows_of(judged.index)
    best = np.zeros(len(rows), dtype=np.int64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        best[part] = store.read_rows(kind, rows[part]).argmax(axis=1)
    answer = np.array(store.classes, dtype=object)[best] if len(rows) else []
    return pd.DataFrame({"truth": judged.astype(object), "answer": answer}, index=judged.index)


def trained_models(run: Run) -> list[str]:
    """The names of the models that are done and hold predictions."""
    done = sorted(path.parent for path in run.folder.glob("models/*/done.json"))
    return [folder.name for folder in done if is_whole(folder / "predictions")]


def pairs(one: Run, other: Run) -> list[dict[str, Any]]:
    """Compare models of one name, the best ones and the votes, on the same held-out images.

    Held out alike are images that both runs held out from the model, and judge under one label.

    Returns
    -------
    list of dict
        A row each: `name`; `n`, the images; `one` and `other`, top-1; `difference`, the second less
        the first, with `low` and `high` of its 95 % interval; `gained` and `lost`, how many images
        are right in the second alone and in the first alone; `apart`, how many images one of the
        two held out that are not compared. Without an image in common the shares are None.
    """
    of_one, of_other = _all_answers(one), _all_answers(other)
    rows = []
    best = [_best(each) for each in (of_one, of_other)]
    if all(best):
        said = " and ".join(dict.fromkeys(best))
        title = f"the best single model: {said}"
        rows.append(paired(title, of_one[best[0]], of_other[best[1]]))
    for name in [n for n in of_one if n in of_other]:
        rows.append(paired(name, of_one[name], of_other[name]))
    return rows


def _all_answers(run: Run) -> dict[str, pd.DataFrame]:
    """The answers of the vote, where there is one, and of each model, by name."""
    makers: dict[str, Callable[[], pd.DataFrame]] = {}
    if is_whole(run.folder / "ensemble" / VOTE):
        makers[VOTE] = lambda: vote_answers(run)
    makers |= {name: lambda name=name: model_answers(run, name) for name in trained_models(run)}
    return {name: make() for name, make in makers.items()}


def _best(answers: Mapping[str, pd.DataFrame]) -> str:
    """The single model with the best top-1, the first of equal ones; empty where there is none.

    Asked are those that the images of the vote judge; without a vote, those that as many images
    judge as any.
    """
    models = {name: found for name, found in answers.items() if name != VOTE and len(found)}
    if VOTE in answers:
        asked = answers[VOTE].index
        shared = {name: int(found.index.isin(asked).sum()) for name, found in models.items()}
    else:
        shared = {name: len(found) for name, found in models.items()}
    most = max(shared.values(), default=0)
    judged = [name for name, images in shared.items() if images == most]
    top1 = {name: (models[name]["truth"] == models[name]["answer"]).mean() for name in judged}
    return max(judged, key=lambda name: top1[name], default="")


def paired(name: str, one: pd.DataFrame, other: pd.DataFrame) -> dict[str, Any]:
    """Compare two answers image by image; a row of `pairs`."""
    both = one.add_suffix("_one").join(other.add_suffix("_other"), how="inner")
    both = both[both["truth_one"] == both["truth_other"]]
    n, union = len(both), len(one.index.union(other.index))
    row: dict[str, Any] = {"name": name, "n": n, "apart": union - n}
    right_one = both["answer_one"] == both["truth_one"]
    right_other = both["answer_other"] == both["truth_other"]
    gained, lost = int((right_other & ~right_one).sum()), int((right_one & ~right_other).sum())
    row |= {"gained": gained, "lost": lost}
    if not n:
        return row | dict.fromkeys(("one", "other", "difference", "low", "high"))
    difference, low, high = paired_difference(gained, lost, n)
    shares = {"one": float(right_one.mean()), "other": float(right_other.mean())}
    return row | shares | {"difference": difference, "low": low, "high": high}


def figures(one: Run, other: Run) -> list[dict[str, Any]]:
    """The figures of the report that differ: `section`, `name`, `one` and `other`."""
    rows = []
    for section in sorted(one.report.keys() | other.report.keys()):
        first, second = one.figures(section), other.figures(section)
        for name in dict.fromkeys([*first, *second]):
            values = [values.get(name, ABSENT) for values in (first, second)]
            if values[0] != values[1]:
                rows.append(
                    {"section": section, "name": name, "one": values[0], "other": values[1]}
                )
    return rows


def times(one: Run, other: Run) -> list[dict[str, Any]]:
    """How long each step took in the two runs, in seconds: `step`, `one` and `other`."""
    steps = sorted(one.seconds.keys() | other.seconds.keys())
    return [{"step": s, "one": one.seconds.get(s), "other": other.seconds.get(s)} for s in steps]


def answers(one: Run, other: Run) -> dict[str, Any]:
    """How the submissions in force differ.

    Returns
    -------
    dict
        `one` and `other`, from which file the answers are; `images`, how many test images both
        answer for; `differ`, a frame of those with other classes, by image_id: `one` and `other`.
    """
    first, second = answers_in_force(one), answers_in_force(other)
    both = pd.DataFrame({"one": first.classes, "other": second.classes}).dropna()
    return {
        "one": first.source,
        "other": second.source,
        "images": len(both),
        "differ": both[both["one"] != both["other"]],
    }
