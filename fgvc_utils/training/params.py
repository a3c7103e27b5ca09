"""The parameters of 10 and 20.

No record has defaults: a default lives once, in the notebook's parameters cell.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fgvc_utils.contest.config import Network, Shared
from fgvc_utils.contest.parameters import (
    Count,
    CountOrZero,
    FolderName,
    NotNegative,
    Parameters,
    Positive,
    Ratio,
    Share,
    Table,
)


class Recipe(Parameters):
    """How a network is trained: shared by 10_train and 20_distill."""

    name: FolderName
    table: Table
    fold_table: Table
    held_out_fold: Annotated[int, Field(ge=-1)]
    decoded_gb: NotNegative
    random_crop: bool
    train_ratio: Ratio
    test_ratio: Ratio
    epochs: Count
    base_lr: Positive
    radam_lr: Positive
    radam_share: Share
    momentum: Share
    weight_decay: NotNegative
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    global_batch: Count
    micro_batch: Count
    precision: Literal["auto", "float32", "bfloat16"]
    gradient_checkpointing: bool
    changes_on: Literal["workers", "device"]
    balance: Literal["none", "oversample", "prior"]
    keep_prior: bool
    keep_empty: bool
    feature_views: CountOrZero
    mix: Literal["none", "cutmix", "mixup"]
    mix_probability: Share
    mix_alpha: Positive
    colour_jitter: Share
    flip_probability: Share
    quarter_turn_probability: Share
    quality_probability: Share
    quality_low: Share
    quality_high: Share
    jpeg_probability: Share
    jpeg_low: Annotated[int, Field(ge=1, le=100)]
    jpeg_high: Annotated[int, Field(ge=1, le=100)]
    paste_probability: Share
    paste_smallest: Annotated[float, Field(gt=0, le=1)]
    shuffle_probability: Share
    shuffle_most: Annotated[int, Field(ge=2, le=16)]

    @model_validator(mode="after")
    def _ordered(self) -> "Recipe":
        if self.quality_low > self.quality_high:
            raise ValueError("quality_low is above quality_high")
        if self.jpeg_low > self.jpeg_high:
            raise ValueError("jpeg_low is above jpeg_high")
        return self


class TrainParams(Shared, Network, Recipe):
    """10_train."""

    test_ratios: list[Ratio]
    rate_sweep_steps: CountOrZero


class DistillParams(Shared, Network, Recipe):
    """20_distill."""

    teachers: list[FolderName]
    variant: Literal["A", "B"]
    temperature: Positive
    teacher_views: CountOrZero
    fold_clean: bool

    @model_validator(mode="after")
    def _labels_for_balance(self) -> "DistillParams":
        if self.variant == "A" and self.balance != "none":
            raise ValueError("variant A learns from unlabelled images too: set balance to 'none'")
        return self
