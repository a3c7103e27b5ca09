"""Checks of the submission and of the prior."""

import numpy as np

from fgvc_utils.answers import assignment, label_shift, submission
from fgvc_utils.answers.forms import Answers, FileLines
from fgvc_utils.answers.planned import Plan, plan_of
from fgvc_utils.contest import listing
from fgvc_utils.contest.beside import copies, files_folder
from fgvc_utils.core.naming import shortened
from fgvc_utils.pipeline.checks.findings import Contest, Findings


def check_submission(contest: Contest, found: Findings) -> None:
    """The file can be written as it is asked for, and the classes have room for all images."""
    if contest.images is None or not contest.count("test"):
        return
    for step in contest.of("40_submit"):
        cfg, count, classes = step.cfg, contest.count("test"), contest.classes
        try:
            plan = plan_of(cfg, contest.images, classes, files_folder(cfg))
        except (ValueError, OSError) as error:
            found.errors.append(f"{step.name}: {error}")
        else:
            count = len(plan.names)
            _say(plan, step.name, found)
            try:
                if not cfg.allow_formulas:
                    submission.refuse_formulas(
                        submission.texts_of(plan.layout, plan.names, classes)
                    )
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


def _say(plan: Plan, name: str, found: Findings) -> None:
    """Say what the file will look like, with a line as it will be but for the class."""
    found.warnings += [f"{name}: {note}" for note in plan.notes]
    layout, classes = plan.layout, len(plan.layout.classes)
    answers = Answers(np.zeros(1, int), np.full((1, classes), 1 / classes, np.float32))
    *_, line = FileLines(layout, plan.names.tolist()[:1], answers)
    shown = shortened(line.rstrip("\n"), 120)
    found.facts.append(f"{name}: {plan.form}; a line looks like {shown!r}")


def check_prior(contest: Contest, found: Findings) -> None:
    """A prior's file can be read and gives each class its share."""
    for step in contest.of("40_submit"):
        lost = contest.root is None and contest.of("01_noise")
        if not step.cfg.prior or lost:
            continue
        try:
            place = listing.inside(files_folder(step.cfg) or copies(step.cfg), step.cfg.prior)
            classes = contest.classes if contest.images is not None else []
            if classes or not place.is_file():
                label_shift.read_prior(place, classes)
        except (ValueError, OSError) as error:
            found.errors.append(f"{step.name}: {error}")
