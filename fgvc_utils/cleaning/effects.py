"""What a person's decisions change of other images, apart from what further rounds change alone.

Further rounds change verdicts by themselves, on images that lie near a bar. So they are run twice
from the same start, with the decisions and without: what comes out alike either way has not been
changed by the decisions, and stays as it was before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fgvc_utils.cleaning.crossing import Crossing
from fgvc_utils.cleaning.judging import Judgement, once_more

# What the rounds without the decisions are called, after the stage.
WITHOUT = "-without"


@dataclass(frozen=True)
class Effect:
    """What further rounds changed of images that nobody has decided on just now.

    Parameters
    ----------
    caused
        Ids of the images that changed, and come out otherwise with the decisions than without.
    alone
        Ids of the images that the same rounds would have changed without any decision; they stay
        as they were. Nothing where this was not measured.
    measured
        Whether the rounds were run without the decisions too.
    """

    caused: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    measured: bool = True

    def text(self) -> str:
        """The effect in words."""
        if not self.measured:
            return (
                f"{len(self.caused)} other images changed in the rounds that followed. How many of "
                "them would have changed without any decision is not known: with `fit: full` the "
                "rounds are not run a second time without the decisions."
            )
        text = f"{len(self.caused)} other images changed because of what was decided just now."
        if self.alone:
            text += (
                f" {len(self.alone)} more would have changed in these rounds without any decision; "
                "they stay as they were."
            )
        return text


def decided_since(
    crossing: Crossing, before: pd.DataFrame, table: pd.DataFrame, earlier: Judgement
) -> tuple[Judgement, Effect]:
    """Go on from a judgement with what a person has decided since, and tell what that changed.

    Parameters
    ----------
    crossing
        The cross-training, as the earlier judgement took it.
    before, table
        The label table with the decisions that the earlier judgement knew, and with all so far.
    earlier
        The judgement to go on from.

    Returns
    -------
    judgement : Judgement
        Its verdicts are those of `earlier`, but for images whose verdict the decisions changed.
    effect : Effect
        What changed. Without heads on stored features (`fit: full`) it is not measured, since the
        rounds without the decisions would take as long again; then all verdicts are the new ones.
    """
    after = once_more(crossing, table, earlier)
    decided = newly_decided(before, table)
    if crossing.cfg.fit == "full":
        moved = [i for i in _differ(earlier.verdict, after.verdict) if i not in decided]
        return after, Effect(tuple(moved), measured=False)
    apart = replace(crossing, name=crossing.name + WITHOUT)
    without = once_more(apart, before, earlier)
    caused = set(_differ(without.verdict, after.verdict)) & set(
        _differ(earlier.verdict, after.verdict)
    )
    alone = [
        i for i in _differ(earlier.verdict, without.verdict) if i not in caused and i not in decided
    ]
    verdict = after.verdict.copy()
    stays = verdict.index[~verdict.index.isin(caused | decided)].intersection(earlier.verdict.index)
    verdict.loc[stays] = earlier.verdict.loc[stays, verdict.columns]
    kept = verdict.index[verdict["verdict"] != "drop"]
    were_out = earlier.verdict.index[earlier.verdict["verdict"] == "drop"]
    ids = after.returned.index.to_series()
    returned = ids.isin(kept) & ids.isin(were_out)
    effect = Effect(tuple(i for i in after.verdict.index if i in caused - decided), tuple(alone))
    return replace(after, verdict=verdict, returned=returned), effect


def newly_decided(before: pd.DataFrame, table: pd.DataFrame) -> set[str]:
    """The images that people decided on otherwise, or anew, between two label tables."""
    columns = ["status", "label", "stage", "by", "cause"]
    changed = (before[columns] != table[columns]).any(axis=1)
    return set(table.loc[changed, "image_id"])


def _differ(one: pd.DataFrame, other: pd.DataFrame) -> Sequence[str]:
    """Images on which two judgements decide otherwise, in the order of the other one."""
    both = other.index.intersection(one.index, sort=False)
    here, there = (_outcome(each.loc[both]) for each in (one, other))
    return both[(here != there).any(axis=1)].tolist()


def _outcome(verdict: pd.DataFrame) -> np.ndarray:
    """Verdicts, with the class where another one is put in a label's place, (images, 2)."""
    put = verdict["suggested"].where(verdict["verdict"] == "relabel", "")
    return np.stack([verdict["verdict"].to_numpy(object), put.to_numpy(object)], axis=1)
