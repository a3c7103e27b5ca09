"""Checks of the texts about the classes that the cleaning compares pictures with."""

from fgvc_utils.cleaning.texts import read_texts
from fgvc_utils.cleaning.views import text_place
from fgvc_utils.pipeline.checks.findings import Contest, Findings
from fgvc_utils.pipeline.checks.room import feature_width
from fgvc_utils.training import catalogue


def check_texts(contest: Contest, found: Findings) -> None:
    """A file of texts can be read, has every class, and fits the network's features."""
    for step in contest.of("02_coarse", "03_fine"):
        cfg = step.cfg
        if not cfg.text_scores or contest.root is None:
            continue
        backbone = cfg.text_backbone or cfg.backbone
        # Of a network of the hub that was not downloaded yet, nobody knows.
        width = feature_width(backbone) if catalogue.on_this_machine(backbone) else 0
        classes = contest.classes if contest.images is not None else []
        try:
            read_texts(text_place(cfg), classes, width)
        except (ValueError, OSError) as error:
            found.errors.append(f"{step.name}: {error}")
