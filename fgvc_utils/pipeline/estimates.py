"""How long steps will take: by their own last time, else by what finished steps took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.stages import is_probe

# Beside the stamps, so that no stamp changes by it.
FILE = "seconds.json"

# About what a step of each stage takes on the demo with two CPU cores and warm ranks, in seconds;
# the ratios count alone.
TYPICAL = {
    "01_noise": 39.0,
    "02_coarse": 43.0,
    "03_fine": 26.0,
    "04_lowq": 3.0,
    "10_train": 62.0,
    "20_distill": 49.0,
    "30_ensemble": 7.0,
    "40_submit": 2.5,
}
# A step that has run for so many times what was expected of it speaks against the estimate.
LATE = 1.5
# The recipe with which the demo's networks were trained.
EPOCHS = {"10_train": 6, "20_distill": 3}
SIZE = 112
# A probe on features that are stored already.
PROBE = 8.0


@dataclass(frozen=True)
class Took:
    """What a step took, in seconds; what is typical of its parameters; its network, if any."""

    seconds: float
    typical: float
    network: str


def typical(step: Step) -> float:
    """What a step's stage takes on the demo, stretched to its own epochs and size of pictures."""
    seconds = TYPICAL.get(step.stage, 0.0)
    if is_probe(step.cfg):
        return PROBE * (1 + step.cfg.refit)
    if epochs := EPOCHS.get(step.stage):
        seconds *= step.cfg.epochs / epochs * (step.cfg.size / SIZE) ** 2 * (1 + step.cfg.refit)
    return seconds


def network(step: Step) -> str:
    """The network whose speed decides what a step takes; empty where there is none."""
    return getattr(step.cfg, "backbone", "")


def read_seconds(folder: Path) -> dict[str, Took]:
    """What the steps of a run took when they were last done, by name; empty where it is unknown."""
    try:
        return {name: Took(**took) for name, took in read_json(folder / FILE).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        # A note that cannot be read costs an estimate, and no run.
        return {}


def note_seconds(step: Step, seconds: float) -> None:
    """Write what a step took into its run's folder."""
    known = {name: vars(took) for name, took in read_seconds(step.cfg.folder).items()}
    known[step.name] = vars(Took(round(seconds, 2), typical(step), network(step)))
    write_json(dict(sorted(known.items())), step.cfg.folder / FILE)


def expected(step: Step, known: Mapping[str, Took]) -> float | None:
    """Seconds that a step will take; None where nothing speaks for a figure.

    Parameters
    ----------
    step
        The step.
    known
        What steps of this run took. Its own last time is taken, stretched where its epochs or size
        are other ones by now. Else the finished steps of the same network tell how fast this
        machine and these images are beside the demo; any do for a step without a network.
    """
    own = known.get(step.name)
    if own and own.network == network(step) and own.typical:
        return own.seconds * typical(step) / own.typical
    like = [took for took in known.values() if network(step) in ("", took.network)]
    whole = sum(took.typical for took in like)
    if not whole or not typical(step):
        return None
    return sum(took.seconds for took in like) / whole * typical(step)


def left(
    current: Step | None, spent: float, later: Sequence[Step], known: Mapping[str, Took]
) -> float | None:
    """Seconds until the end of a run; None where a step has no estimate.

    Parameters
    ----------
    current
        The step that runs.
    spent
        Seconds that it has run so far.
    later
        The steps that run after it.
    known
        As in `expected`.
    """
    steps = [step for step in (current, *later) if step]
    times = [expected(step, known) for step in steps]
    if current and times[0] is not None:
        late = spent > LATE * times[0]
        times[0] = None if late else max(times[0] - spent, 0.0)
    return None if None in times else sum(times)


def in_words(seconds: float | None) -> str:
    """An estimate as people say it, no finer than it is: about 7 min, about 2.5 h; may be empty."""
    if seconds is None:
        return ""
    if seconds < 45:
        return "less than a minute left"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes if minutes < 10 else 5 * round(minutes / 5)} min left"
    hours = seconds / 3600
    return f"about {hours:.1f} h left" if hours < 10 else f"about {hours:.0f} h left"
