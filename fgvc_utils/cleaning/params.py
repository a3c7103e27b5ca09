"""The parameters of 01 to 04.

A default lives once, in the notebook's parameters cell. Where a field has a value here, that one is
neutral: the part it belongs to is off, and a notebook need not name it. Parameters that one module
alone reads are there: `views.ViewParams`, `deciding.DecisionParams` and `classes.ClassParams`.

Counts in no digest.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fgvc_utils.cleaning.class_decisions import ClassDecision
from fgvc_utils.cleaning.classes import ClassParams
from fgvc_utils.cleaning.deciding import DecisionParams
from fgvc_utils.cleaning.views import ViewParams, views_in_use
from fgvc_utils.contest.config import FurtherNetwork, Network, Shared, networks_of
from fgvc_utils.contest.contest_rules import Breach, ContestRules
from fgvc_utils.contest.listing import OtherFiles
from fgvc_utils.contest.parameters import (
    Count,
    CountOrZero,
    NetworkName,
    NotNegative,
    Parameters,
    Pixels,
    Positive,
    Ratio,
    Share,
)
from fgvc_utils.contest.places import NamedPath


class Looks(Parameters):
    """What a look in a gallery of images counts for."""

    decide_copies: bool = Field(
        default=False, description="a decision on an image counts for its copies too"
    )


class LikeLooks(Looks):
    """The looks of 02 and 03, where images of one label and verdict are like cases."""

    like_cases: CountOrZero = Field(
        default=0, description="nearest like images offered after a decision; 0: none"
    )


class Features(Network):
    """The network of a cleaning stage and how it is fitted, whole or as a head on its features."""

    fit: Literal["head", "full"]
    optimiser: Literal["lbfgs", "radam", "sgd", "adamw"]
    lbfgs_steps: Count
    test_ratio: Ratio
    epochs: Count
    rate: Positive
    sgd_rate: Positive
    weight_decay: NotNegative
    global_batch: Count
    micro_batch: CountOrZero

    @model_validator(mode="after")
    def _networks_need_a_rate(self) -> "Features":
        if self.fit == "full" and self.optimiser == "lbfgs":
            raise ValueError("optimiser lbfgs fits heads; with fit: full give sgd, radam or adamw")
        return self


class NoiseParams(Shared, Features, Looks):
    """01_noise."""

    train: NamedPath
    test: NamedPath
    path_column: str
    label_column: str
    id_column: str
    train_images: NamedPath = Field(default="", description="folder of what a train listing names")
    test_images: NamedPath = Field(default="", description="folder of what a test listing names")
    image_ending: str = Field(default="", description="added to names that do not end in it")
    class_names: NamedPath = Field(default="", description="a file of what classes are called")
    class_levels: list[str] = Field(default=[], description="its columns that group classes")
    other_files: OtherFiles
    cache_side: Pixels
    copy_distance: Annotated[int, Field(ge=0, le=16)]
    deep_copy_similarity: Share
    copies_agree: Share = Field(
        default=0.0, description="copies under many labels stay where more of them have one"
    )
    folds: Annotated[int, Field(ge=2)]
    threshold: Share
    normal_threshold: Share
    max_rounds: Count
    stop_share: Share
    bootstrap_least: Count
    bootstrap_most: Share = Field(
        default=1.0, description="with more files that are not three-channel, they say nothing"
    )
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

    optimiser: Literal["", "lbfgs", "radam", "sgd", "adamw"] = ""
    rate: NotNegative = 0.0
    mirror: bool = True
    colour_jitter: Share = 0.0
    backbones: list[NetworkName] = []
    seed: int = 0

    def text(self) -> str:
        """The recipe in short, for the ledger."""
        parts = [self.optimiser] if self.optimiser else []
        parts += ["mirrored" if self.mirror else "plain", *self.backbones]
        parts += [f"rate {self.rate:g}"] if self.rate else []
        parts += [f"colour jitter {self.colour_jitter:g}"] if self.colour_jitter else []
        return ", ".join(parts)


class CrossParams(Shared, Features, ViewParams, DecisionParams, LikeLooks):
    """02_coarse and 03_fine."""

    further_backbones: list[NetworkName | FurtherNetwork]
    top: Count
    rule: Literal["rank", "posterior"]
    folds: Annotated[int, Field(ge=2)]
    rounds: Annotated[list[Round], Field(min_length=1)]
    max_rounds: CountOrZero
    recheck_positives: bool
    posterior_rounds: CountOrZero
    averaged_rounds: Count
    cuts: Count = 1
    head_folds: CountOrZero = 0
    settled: Share = 0.0
    planted_share: Annotated[float, Field(ge=0, le=0.5)]
    look_share: Share
    require_review: bool

    @model_validator(mode="after")
    def _known_backbones(self) -> "CrossParams":
        known = {network.backbone for network in networks_of(self)}
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

    @property
    def in_one_job(self) -> bool:
        """Whether the heads of all folds of a round by posterior are fitted in one job."""
        return self.fit == "head" and self.optimiser == "lbfgs" and self.head_folds > 1

    @model_validator(mode="after")
    def _views_have_features(self) -> "CrossParams":
        for view in views_in_use(self):
            if self.fit == "full" and view.needs_features:
                raise ValueError(f"{view.weight} reads features, which fit: full has none of")
            if problem := view.problem(self):
                raise ValueError(problem)
        return self


class LowQualityParams(Shared, Network, ClassParams):
    """04_lowq."""

    test_ratio: Ratio
    small_class: Count
    neighbours: Count
    drop_below: Share
    kept_below: Share
    class_decisions: list[ClassDecision]
    require_review: bool

    def breaches(self, rules: ContestRules) -> list[Breach]:
        found = super().breaches(rules)
        if not rules.hand_cleaning and self.class_decisions:
            what = f"class_decisions holds {len(self.class_decisions)} decisions by people"
            found.append(Breach("hand_cleaning", what, "set class_decisions: []"))
        return found
