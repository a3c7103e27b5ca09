"""How far a judgement is to be trusted: errors are planted, and found again or not."""

import numpy as np
import pandas as pd

from fgvc_utils.cleaning import posterior
from fgvc_utils.cleaning.crossing import Crossing
from fgvc_utils.cleaning.params import Round
from fgvc_utils.cleaning.rounds import Posteriors, recut, targets_folder, write_targets


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
    teacher = targets_folder(crossing, "planted")
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
