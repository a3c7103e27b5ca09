"""The check of a whole contest, before anything runs: what would stop it hours later, found now.

All problems are found at once, each with what to do about it. Errors stop a run; warnings are what
a person should know. It takes seconds, also with half a million files: files are listed, and as
many of them are opened as a few seconds allow.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fgvc_utils.pipeline.checks.findings import Contest, Findings
from fgvc_utils.pipeline.checks.images import (
    SAMPLE_SECONDS,
    check_class_names,
    check_listing,
    check_places,
    look_at_images,
)
from fgvc_utils.pipeline.checks.names import check_names
from fgvc_utils.pipeline.checks.networks import (
    check_batches,
    check_device,
    check_folds,
    check_networks,
)
from fgvc_utils.pipeline.checks.room import check_memory, check_room, check_shared_memory
from fgvc_utils.pipeline.checks.rules import check_rules
from fgvc_utils.pipeline.checks.stages import (
    check_class_decisions,
    check_journals,
    check_made_before,
)
from fgvc_utils.pipeline.checks.submission import check_prior, check_submission
from fgvc_utils.pipeline.checks.texts import check_texts


def check(steps: Sequence[Any], sample_seconds: float = SAMPLE_SECONDS) -> Findings:
    """Check the steps of a contest.

    Nothing is written but a temporary file in the folder of results, which goes at once.

    Parameters
    ----------
    steps : sequence of contest_file.Step
        Each has a stage, a name, its parameters (cfg) and a stamp.
    sample_seconds : float
        How long images are opened, in seconds; 0 opens none.

    Returns
    -------
    Findings
        Errors, which stop a run, warnings, and facts that were counted on the way.
    """
    contest, found = Contest(steps, sample_seconds), Findings()
    parts: list[Callable[[Contest, Findings], None]] = [
        check_places,
        check_listing,
        check_class_names,
        check_names,
        look_at_images,
        check_networks,
        check_batches,
        check_folds,
        check_made_before,
        check_journals,
        check_class_decisions,
        check_rules,
        check_submission,
        check_prior,
        check_texts,
        check_room,
        check_memory,
        check_shared_memory,
        check_device,
    ]
    for part in parts:
        part(contest, found)
    return found
