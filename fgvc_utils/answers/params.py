"""The parameters of 30 and 40.

No record has defaults: a default lives once, in the notebook's parameters cell.

Counts in no digest.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from fgvc_utils.answers.assignment import RULES, RuleName
from fgvc_utils.answers.calibration import Kind
from fgvc_utils.answers.forms import FormName, PackingName
from fgvc_utils.answers.names import IMAGE_NAMES, ClassNames
from fgvc_utils.answers.ways import COMBINATIONS, LAYERS
from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.contest_rules import Breach, ContestRules
from fgvc_utils.contest.parameters import (
    Count,
    CountOrZero,
    FolderName,
    NotNegative,
    Positive,
    Share,
    Table,
)
from fgvc_utils.contest.places import NamedPath
from fgvc_utils.jobs.views import TestView


def _separator(text: str) -> str:
    text = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if not text or len(text.rstrip(" ") or " ") != 1 or text[0] in "\"'\r\n" or text[0].isalnum():
        raise ValueError("give one character that is no letter, digit or quote, or tab")
    return text


# A character, also with a blank behind it.
Separator = Annotated[str, AfterValidator(_separator)]


def _inner_name(name: str) -> str:
    if name != name.strip() or name.startswith((".", "-")) or "/" in name or "\\" in name:
        raise ValueError("give the name of a file, such as submission.csv, without a folder")
    return name


InnerName = Annotated[str, Field(max_length=100), AfterValidator(_inner_name)]


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
    micro_batch: CountOrZero
    weight_decay: NotNegative
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    held_out_fold: Annotated[int, Field(ge=-1)]
    table: Table
    test_views: TestView
    mean_weights: Literal["equal", "fitted"]
    seen_models: list[FolderName]
    soup: Literal["none", "uniform", "greedy"]
    calibration: Kind

    @classmethod
    def bound(cls, rules: ContestRules) -> dict[str, Any]:
        if rules.most_models == math.inf:
            return {}
        of_means = {entry.sizes: [int(rules.most_models)] for entry in COMBINATIONS.values()}
        return of_means | {layer.models: 0 for layer in LAYERS.values()}

    def breaches(self, rules: ContestRules) -> list[Breach]:
        found, most = super().breaches(rules), rules.most_models
        switches = {entry.sizes: [int(min(most, 99))] for entry in COMBINATIONS.values()}
        too_many = {name: each for name, each in switches.items() if self._answering(name) > most}
        for layer in LAYERS.values():
            votes = not layer.votes or getattr(self, layer.votes)
            several = self._answering(layer.models) > (most if rules.ensembles else 0)
            too_many |= {layer.models: 0} if votes and several else {}
        # They join the means beside those that are judged.
        too_many |= {"seen_models": []} if self.seen_models and most < math.inf else {}
        if too_many:
            said = ", ".join(f"{name} {getattr(self, name)}" for name in too_many)
            advice = ", ".join(f"{name}: {value}" for name, value in too_many.items())
            rule = "final_models" if rules.ensembles else "ensembles"
            what = f"{said} let more than {int(most)} model{'s' * (most > 1)} answer"
            found.append(Breach(rule, what, f"set {advice}"))
        return found

    def _answering(self, parameter: str) -> int:
        """How many models answer together by a parameter, at most."""
        wanted = getattr(self, parameter)
        wanted = max(wanted) if isinstance(wanted, list) else wanted
        return min(wanted, len(self.models)) if self.models else wanted

    @model_validator(mode="after")
    def _weights_need_images(self) -> "EnsembleParams":
        if self.mean_weights == "fitted" and self.held_out_fold < 0:
            raise ValueError("mean_weights are fitted on held-out images: give a held_out_fold")
        if self.soup == "greedy" and self.held_out_fold < 0:
            raise ValueError("a greedy soup is chosen by held-out images: give a held_out_fold")
        if self.calibration != "none" and self.held_out_fold < 0:
            raise ValueError("calibration is fitted on held-out images: give a held_out_fold")
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
    rule: RuleName
    known_count: CountOrZero
    prior: NamedPath
    slack: Annotated[float, Field(ge=1)]
    regularisation: Positive
    pull: Share
    repair: bool
    resamples: CountOrZero
    sample: NamedPath
    form: FormName
    columns: Annotated[list[str], Field(min_length=2)]
    image_column: Annotated[str, Field(min_length=1)]
    names_file: NamedPath
    class_names: ClassNames
    class_digits: Annotated[int, Field(ge=0, le=20)]
    first_class: Annotated[int, Field(ge=0, le=1)]
    header: bool
    separator: Separator
    top: Count
    top_separator: Separator
    decimals: Annotated[int, Field(ge=1, le=15)]
    packing: PackingName
    inner_name: InnerName
    allow_formulas: bool

    @classmethod
    def bound(cls, rules: ContestRules) -> dict[str, Any]:
        return {} if rules.fit_to_test else {"rule": "plain"}

    def breaches(self, rules: ContestRules) -> list[Breach]:
        found = super().breaches(rules)
        if not rules.fit_to_test and RULES[self.rule].balances:
            what = f"rule {self.rule} fits the answers to the test set's classes"
            found.append(Breach("fit_to_test", what, "set rule: plain"))
        return found

    @model_validator(mode="after")
    def _fits_together(self) -> "SubmitParams":
        if self.known_count and self.prior:
            raise ValueError(
                "known_count and prior both give the test set's classes; set one of them"
            )
        if self.repair and self.pull < 1:
            raise ValueError("repair meets the counts to the image, so pull must be 1 with it")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: the image and the class need different names")
        if not all(self.columns):
            raise ValueError("columns: a column needs a name; header: false writes no head line")
        if not self.names_file and self.image_column not in IMAGE_NAMES:
            raise ValueError(
                f"image_column {self.image_column!r} is none of {', '.join(IMAGE_NAMES)}; for a "
                "listing's column name the listing as names_file"
            )
        if self.inner_name and self.packing != "zip":
            raise ValueError("inner_name is the file's name within a ZIP: set packing: zip")
        return self
