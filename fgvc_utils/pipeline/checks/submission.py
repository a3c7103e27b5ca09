"""Checks of the submission and of the prior."""

from typing import Any

import pandas as pd

from fgvc_utils.answers import assignment, label_shift, submission
from fgvc_utils.contest import listing
from fgvc_utils.core.reading import read_csv
from fgvc_utils.pipeline.checks.findings import Contest, Findings

SAMPLE_FILE = "sample_submission.csv"


def check_submission(contest: Contest, found: Findings) -> None:
    """The test images have the names that a submission needs, and the classes have room for all."""
    if contest.images is None or not contest.count("test"):
        return
    for step in contest.of("40_submit"):
        cfg, count, classes = step.cfg, contest.count("test"), contest.classes
        try:
            names = submission.submission_ids(contest.images, cfg.image_column)
            _like_the_sample(contest, step, names, found)
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}; choose another image_column")
            names = pd.Series([], dtype=object)
        try:
            if not cfg.allow_formulas:
                submission.refuse_formulas([*cfg.columns, *names, *classes])
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}")
        try:
            if assignment.RULES[cfg.rule].capped and not cfg.prior:
                assignment.cap_for(cfg.known_count, count, len(classes), cfg.slack)
        except ValueError as error:
            found.errors.append(f"{step.name}: {error}")
        expected = cfg.known_count * len(classes)
        if expected and abs(expected - count) > 0.1 * count:
            found.warnings.append(
                f"{step.name}: known_count {cfg.known_count} × {len(classes)} classes are "
                f"{expected} test images, but there are {count}; is it right?"
            )


def _like_the_sample(contest: Contest, step: Any, names: pd.Series, found: Findings) -> None:
    """Where the contest's own sample lies beside the images, the submission will look like it."""
    path = contest.root / SAMPLE_FILE
    if not path.is_file():
        return
    try:
        sample = read_csv(path)
    except ValueError as error:
        found.warnings.append(f"{step.name}: {error}")
        return
    if list(sample) != list(step.cfg.columns):
        found.warnings.append(
            f"{step.name}: columns {step.cfg.columns} are not those of {path.name}, {list(sample)}"
        )
    if sample.shape[1] < 2:
        return
    apart = sorted(set(sample.iloc[:, 0]) ^ set(names))
    if apart:
        found.warnings.append(
            f"{step.name}: {path.name} and the test images differ in {len(apart)} names, first "
            f"{apart[0]!r}; is image_column {step.cfg.image_column!r} what the contest calls an "
            f"image, as in {sample.iloc[0, 0]!r}?"
        )
    unknown = sorted(set(sample.iloc[:, 1]) - set(contest.classes) - {""})
    if unknown:
        found.warnings.append(
            f"{step.name}: {path.name} names {len(unknown)} classes that no train image has, first "
            f"{unknown[0]!r}; is label_column the right one?"
        )


def check_prior(contest: Contest, found: Findings) -> None:
    """A prior's file can be read and gives each class its share."""
    for step in contest.of("40_submit"):
        if not step.cfg.prior or contest.root is None:
            continue
        try:
            place = listing.inside(contest.root, step.cfg.prior)
            classes = contest.classes if contest.images is not None else []
            if classes or not place.is_file():
                label_shift.read_prior(place, classes)
        except (ValueError, OSError) as error:
            found.errors.append(f"{step.name}: {error}")
