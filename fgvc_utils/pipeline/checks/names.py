"""Checks of what classes are called."""

from fgvc_utils.contest.class_names import read_names, said_of, source_of
from fgvc_utils.pipeline.checks.findings import Contest, Findings


def check_names(contest: Contest, found: Findings) -> None:
    """A file of names can be read, and has the classes of the contest."""
    for step in contest.of("01_noise"):
        if contest.root is None or contest.images is None:
            continue
        cfg, classes = step.cfg, contest.classes
        try:
            place = source_of(cfg, contest.root)
            if place is None:
                if cfg.class_levels:
                    found.errors.append(
                        f"{step.name}: class_levels names {cfg.class_levels}, but nothing says "
                        "what classes are called: name a file as class_names"
                    )
                continue
            names = read_names(place, classes, cfg.class_levels, cfg.label_column)
        except (ValueError, OSError) as error:
            found.errors.append(f"{step.name}: {error}")
            continue
        text = f"{place.name}: {said_of(names, classes)}"
        (found.facts if len(names) == len(classes) else found.warnings).append(text)
