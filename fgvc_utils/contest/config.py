"""Typed parameters: one record a stage, and how a contest's folders are found.

The records have no defaults. A default lives once, in the notebook's parameters cell, so a notebook
that forgets a parameter or has one too many fails before it works.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fgvc_utils.contest.parameters import (
    Count,
    CountOrZero,
    FolderName,
    NotNegative,
    Parameters,
    Pixels,
    Positive,
    Ratio,
    Share,
    Table,
)
from fgvc_utils.contest.places import PROJECT


class Shared(Parameters):
    """What all stages share."""

    run: FolderName
    outputs: str
    data_root: str
    seed: CountOrZero
    processes: Count
    nodes: Count
    node_rank: CountOrZero
    rendezvous: str
    device: Literal["auto", "cpu", "cuda"]
    threads: CountOrZero
    workers: Annotated[int, Field(ge=-1)]

    @property
    def folder(self) -> Path:
        """The folder of this run; a relative `outputs` lies in the project."""
        return PROJECT / Path(self.outputs).expanduser() / self.run

    def table_path(self, stage: str) -> Path:
        """Where a stage's label table lies."""
        return self.folder / "tables" / f"{stage}.parquet"

    def journal(self, stage: str) -> Path:
        """Where a stage's human decisions lie."""
        return self.folder / "decisions" / f"{stage}.csv"

    @property
    def report(self) -> Path:
        """The figures that tests and people read."""
        return self.folder / "report.json"


class Network(Parameters):
    """A network and the size of its images."""

    # Its features lie in a folder of this name.
    backbone: FolderName
    weights: str
    size: Pixels


class Features(Network):
    """The network of a cleaning stage and how it is fitted, whole or as a head on its features."""

    fit: Literal["head", "full"]
    optimiser: Literal["lbfgs", "radam", "sgd", "adam"]
    lbfgs_steps: Count
    test_ratio: Ratio
    epochs: Count
    rate: Positive
    sgd_rate: Positive
    weight_decay: NotNegative
    global_batch: Count
    micro_batch: Count

    @model_validator(mode="after")
    def _networks_need_a_rate(self) -> "Features":
        if self.fit == "full" and self.optimiser == "lbfgs":
            raise ValueError("optimiser lbfgs fits heads; with fit: full choose sgd, radam or adam")
        return self


class NoiseParams(Shared, Features):
    """01_noise."""

    train: str
    test: str
    path_column: str
    label_column: str
    id_column: str
    cache_side: Pixels
    copy_distance: Annotated[int, Field(ge=0, le=16)]
    folds: Annotated[int, Field(ge=2)]
    threshold: Share
    normal_threshold: Share
    max_rounds: Count
    stop_share: Share
    bootstrap_least: Count
    propose_noise: Share
    propose_normal: Share
    noise_agreement: NotNegative
    neighbours: Count
    audit_looks: Count
    audit_bound: Share
    require_review: bool


class Round(BaseModel):
    """One recipe of cross-training; a round that differs from the others finds other mistakes.

    Empty or 0, optimiser and rate are those of the stage.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimiser: Literal["", "lbfgs", "radam", "sgd", "adam"] = ""
    rate: NotNegative = 0.0
    mirror: bool = True
    colour_jitter: Share = 0.0
    backbones: list[FolderName] = []
    seed: int = 0

    def text(self) -> str:
        """The recipe in a few words, for the ledger."""
        words = [self.optimiser] if self.optimiser else []
        words += ["mirrored" if self.mirror else "plain", *self.backbones]
        words += [f"rate {self.rate:g}"] if self.rate else []
        words += [f"colour jitter {self.colour_jitter:g}"] if self.colour_jitter else []
        return ", ".join(words)


class CrossParams(Shared, Features):
    """02_coarse and 03_fine."""

    further_backbones: list[FolderName]
    top: Count
    rule: Literal["rank", "posterior"]
    folds: Annotated[int, Field(ge=2)]
    rounds: Annotated[list[Round], Field(min_length=1)]
    max_rounds: CountOrZero
    recheck_positives: bool
    trust: Annotated[float, Field(gt=0, lt=1)]
    sharpness: Positive
    posterior_rounds: CountOrZero
    averaged_rounds: Count
    relabel: bool
    relabel_bar: Share
    planted_share: Annotated[float, Field(ge=0, le=0.5)]
    look_share: Share
    require_review: bool

    @model_validator(mode="after")
    def _known_backbones(self) -> "CrossParams":
        known = {self.backbone, *self.further_backbones}
        for number, recipe in enumerate(self.rounds, start=1):
            if self.fit == "full" and recipe.optimiser == "lbfgs":
                raise ValueError(f"rounds: round {number} fits by lbfgs, which fits heads alone")
            strangers = set(recipe.backbones) - known
            if self.fit == "head" and strangers:
                raise ValueError(
                    f"rounds: round {number} names the backbone {sorted(strangers)[0]!r}, which is "
                    "neither backbone nor among further_backbones"
                )
        return self


class LowQualityParams(Shared, Network):
    """04_lowq."""

    test_ratio: Ratio
    small_class: Count
    neighbours: Count
    drop_below: Share
    kept_below: Share
    require_review: bool


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


class EnsembleParams(Shared):
    """30_ensemble."""

    models: list[FolderName]
    mean_sizes: Annotated[list[Count], Field(min_length=1)]
    augmented_models: CountOrZero
    plain_models: CountOrZero
    convolution_models: CountOrZero
    vote_convolution: bool
    epochs: Count
    rate: Positive
    global_batch: Count
    micro_batch: Count
    weight_decay: NotNegative
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    held_out_fold: Annotated[int, Field(ge=-1)]
    table: Table
    test_views: Literal["centre", "flip", "crops"]
    mean_weights: Literal["equal", "fitted"]
    seen_models: list[FolderName]
    soup: Literal["none", "uniform", "greedy"]

    @model_validator(mode="after")
    def _weights_need_images(self) -> "EnsembleParams":
        if self.mean_weights == "fitted" and self.held_out_fold < 0:
            raise ValueError("mean_weights are fitted on held-out images: give a held_out_fold")
        if self.soup == "greedy" and self.held_out_fold < 0:
            raise ValueError("a greedy soup is chosen by held-out images: give a held_out_fold")
        strangers = set(self.seen_models) - set(self.models)
        if self.models and strangers:
            raise ValueError(
                f"seen_models names {sorted(strangers)[0]!r}, which is not among models"
            )
        return self


class SubmitParams(Shared):
    """40_submit."""

    table: Table
    ensemble: FolderName
    rule: Literal["plain", "cap", "sinkhorn", "exact"]
    known_count: CountOrZero
    prior: str
    slack: Annotated[float, Field(ge=1)]
    regularisation: Positive
    pull: Share
    repair: bool
    resamples: CountOrZero
    columns: Annotated[list[str], Field(min_length=2, max_length=2)]
    image_column: Literal["path", "name", "stem", "image_id"]
    allow_formulas: bool

    @model_validator(mode="after")
    def _fits_together(self) -> "SubmitParams":
        if self.known_count and self.prior:
            raise ValueError("known_count and prior both say what the classes are; give one")
        if self.repair and self.pull < 1:
            raise ValueError("repair meets the counts to the image, so pull must be 1 with it")
        if self.columns[0] == self.columns[1]:
            raise ValueError("columns: the image and the class need different names")
        return self


STAGES: dict[str, type[Shared]] = {
    "01_noise": NoiseParams,
    "02_coarse": CrossParams,
    "03_fine": CrossParams,
    "04_lowq": LowQualityParams,
    "10_train": TrainParams,
    "20_distill": DistillParams,
    "30_ensemble": EnsembleParams,
    "40_submit": SubmitParams,
}


# The cleaning stages after the first → the stage whose table each reads.
TABLE_BEFORE = {"02_coarse": "01_noise", "03_fine": "02_coarse", "04_lowq": "03_fine"}
