"""What the vote was made of, in a file beside its scores: by it new photos get the same answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgvc_utils.answers.calibration import Calibration
from fgvc_utils.answers.params import EnsembleParams
from fgvc_utils.answers.ways import Way, members_of
from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.core.project import command_line
from fgvc_utils.core.reading import refused_by_name

FILE = "answer.json"


def again() -> str:
    """What to do where the file is gone or spoilt."""
    line = command_line("run", "…", "--only 30_ensemble")
    return f"run 30_ensemble again: `{line}`; its models stay"


@dataclass(frozen=True)
class Answer:
    """How an image is answered.

    Attributes
    ----------
    ways : tuple of Way
        Those that vote, in order.
    members : mapping of str to Path
        Each member of theirs → the folder of the job that answers: a model, its refit, a soup or a
        layer on features.
    test_view : str
        The view by which networks see an image, an entry of `TEST_VIEWS`.
    calibration : Calibration, optional
        Of the vote's scores.
    """

    ways: tuple[Way, ...]
    members: Mapping[str, Path]
    test_view: str
    calibration: Calibration | None = None


def write_answer(
    cfg: EnsembleParams,
    ensemble: Path,
    ways: Sequence[Way],
    voting: Sequence[str],
    members: Mapping[str, Path],
    calibrations: Sequence[Calibration] = (),
) -> None:
    """Write how the test images were answered, beside the vote's scores.

    Parameters
    ----------
    cfg : EnsembleParams
        The stage's parameters.
    ensemble : Path
        The folder of the scores.
    ways : sequence of Way
        Those of the test images.
    voting : sequence of str
        Names of the ways that vote.
    members : mapping of str to Path
        Member → the folder of the job that answers for test images.
    calibrations : sequence of Calibration
        As `write_scores` took them, that of the test images last; none leaves scores as they are.
    """
    chosen = [way for way in ways if way.name in set(voting)]
    places = {name: _below(Path(members[name]), cfg.folder) for name in members_of(chosen)}
    content = {
        "ways": [way._asdict() for way in chosen],
        "members": places,
        "test_view": cfg.test_views,
        "calibration": None,
    }
    if calibrations:
        last = calibrations[-1]
        fitted = {"temperature": last.temperature, "bias": np.asarray(last.bias).tolist()}
        content["calibration"] = fitted
    write_json(content, Path(ensemble) / FILE)


def _below(place: Path, folder: Path) -> str:
    place, folder = place.absolute(), folder.absolute()
    return str(place.relative_to(folder) if place.is_relative_to(folder) else place)


def read_answer(run: Path, ensemble: str = "vote") -> Answer:
    """Read how a run answers its test images.

    Parameters
    ----------
    run : Path
        The run's folder.
    ensemble : str
        The folder of the scores within `ensemble/`.

    Raises
    ------
    FileNotFoundError
        The run has no such answer; says what to run.
    UnreadableFile
        The file is spoilt.
    """
    file = Path(run) / "ensemble" / ensemble / FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there: {again()}")
    with refused_by_name(file, "an ensemble's answer", again()):
        content = read_json(file)
        fitted = content["calibration"]
        calibration = fitted and Calibration(fitted["temperature"], np.array(fitted["bias"]))
        return Answer(
            tuple(Way(**way) for way in content["ways"]),
            {name: Path(run) / place for name, place in content["members"].items()},
            content["test_view"],
            calibration or None,
        )
