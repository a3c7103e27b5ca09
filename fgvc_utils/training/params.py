"""The parameters of 10 and 20.

No record has defaults: a default lives once, in the notebook's parameters cell. Types and ranges of
the recipe's settings are in `jobs.records`, those of the random changes in `training.changes`.

Counts in no digest.
"""

import math
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, Field, create_model, model_validator

from fgvc_utils.contest.config import FurtherNetwork, Network, Shared
from fgvc_utils.contest.contest_rules import Breach, ContestRules
from fgvc_utils.contest.parameters import (
    CountOrZero,
    FolderName,
    NetworkName,
    NotNegative,
    Parameters,
    Positive,
    Ratio,
    Share,
    Table,
)
from fgvc_utils.contest.posteriors import RESTING
from fgvc_utils.jobs import records
from fgvc_utils.jobs.features import VIEWS
from fgvc_utils.training import changes


def _without_defaults(record: type[BaseModel]) -> dict[str, Any]:
    """The fields of a record as `create_model` takes them, each of which has to be given."""
    hints = get_type_hints(record, include_extras=True)
    return {name: (hints[name], ...) for name in record.model_fields}


_Recipe = create_model(
    "_Recipe",
    __base__=Parameters,
    **_without_defaults(records.Recipe) | {"mix": (changes.MixKind, ...)},
    **{name: (kind, ...) for name, kind in changes.parameter_types().items()},
)
_Distillation = create_model(
    "_Distillation", __base__=Parameters, **_without_defaults(records.Distillation)
)


class Recipe(_Recipe):
    """How a network is trained, and on what: shared by 10_train and 20_distill."""

    name: FolderName
    preset: str
    table: Table
    fold_table: Table
    held_out_fold: Annotated[int, Field(ge=-1)]
    decoded_gb: NotNegative
    feature_views: CountOrZero
    refit: bool
    start_head_decays: list[NotNegative]

    @model_validator(mode="after")
    def _ordered(self) -> "Recipe":
        if wrong := changes.misordered(self):
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _one_crop(self) -> "Recipe":
        if self.crop_smallest and not self.random_crop:
            raise ValueError(
                "crop_smallest cuts at random: set random_crop to true, or crop_smallest to 0"
            )
        return self

    @model_validator(mode="after")
    def _begun(self) -> "Recipe":
        if self.start == self.name:
            raise ValueError(f"start {self.start!r} is the model itself: name an earlier one")
        if not self.epochs and not self.start:
            raise ValueError("epochs may be 0 only where start names an earlier model")
        if self.start_head == "probe" and not self.start_head_decays:
            raise ValueError("start_head probe needs a weight decay in start_head_decays")
        if self.start_head == "probe" and self.classifier == "arcface":
            raise ValueError(
                "start_head probe begins with a linear layer, which classifier arcface has not: "
                "set start_head to random, or classifier to linear"
            )
        return self

    @model_validator(mode="after")
    def _held_out_before(self) -> "Recipe":
        if self.refit and self.held_out_fold < 0:
            raise ValueError(
                "refit fits on all images once more: with held_out_fold -1 the model itself does"
            )
        return self

    @model_validator(mode="after")
    def _averaged_once(self) -> "Recipe":
        if self.ema_decay and self.swa_epochs:
            raise ValueError("ema_decay and swa_epochs exclude each other: set one of them 0")
        if self.swa_epochs > self.epochs:
            raise ValueError(
                f"swa_epochs {self.swa_epochs} is more than the {self.epochs} epochs: lower it"
            )
        return self

    @model_validator(mode="after")
    def _computed_once(self) -> "Recipe":
        if self.compile and self.gradient_checkpointing:
            raise ValueError(
                "compile and gradient_checkpointing exclude each other: switch one off"
            )
        return self


class Trained(Shared, Network, Recipe):
    """What 10_train and 20_distill share."""

    @classmethod
    def bound(cls, rules: ContestRules) -> dict[str, Any]:
        # No layer of 30 reads the features of random views then.
        return {"feature_views": 0} if rules.most_models < math.inf else {}


class TrainParams(Trained):
    """10_train."""

    soft_labels: bool
    fit: Literal["network", "probe"]
    probe_backbones: list[NetworkName | FurtherNetwork]
    probe_views: Annotated[list[Literal[VIEWS]], Field(min_length=1)]
    probe_decays: Annotated[list[Positive], Field(min_length=1)]
    test_ratios: list[Ratio]
    tuned_shares: list[Share]
    rate_sweep_steps: CountOrZero

    @property
    def reads_posteriors(self) -> bool:
        """Whether it learns from 03's posteriors: asked for, and of a table that rests on them."""
        return self.soft_labels and self.table in RESTING


class DistillParams(Trained, _Distillation):
    """20_distill."""

    teachers: list[FolderName]
    variant: Literal["A", "B"]

    @classmethod
    def bound(cls, rules: ContestRules) -> dict[str, Any]:
        return super().bound(rules) | ({} if rules.train_on_test else {"variant": "B"})

    def breaches(self, rules: ContestRules) -> list[Breach]:
        found = super().breaches(rules)
        if not rules.distillation:
            what = f"model {self.name} would learn from other models"
            found.append(Breach("distillation", what, "leave 20_distill out"))
        if not rules.train_on_test and self.variant == "A":
            what = f"variant A of model {self.name} learns from test images by its teachers"
            found.append(Breach("train_on_test", what, "set variant: B"))
        return found

    @model_validator(mode="after")
    def _labels_for_balance(self) -> "DistillParams":
        if self.variant == "A" and self.balance != "none":
            raise ValueError("variant A learns from unlabelled images too: set balance to 'none'")
        return self
