"""New photos answered as a run answers its test images: by its ensemble, or by one model."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fgvc_utils.answers.answered import Answer, read_answer
from fgvc_utils.answers.ensembling import MemberOutputs, Part, vote_scores
from fgvc_utils.answers.transport import log_probabilities
from fgvc_utils.answers.ways import single
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.hardware.distributed import Processes, workers_of
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.sharing.none_of_them import NoiseModel, noise_model
from fgvc_utils.sharing.photos import find_photos, prepared
from fgvc_utils.sharing.runs import FIRST, FinishedRun
from fgvc_utils.sharing.tasks import Asked
from fgvc_utils.training.models import trained_models
from fgvc_utils.training.refits import refits_of

# Photos whose pictures and arrays lie on the disk at once.
TOGETHER = 8192

Say = Callable[[str], None]


def device_of(named: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` stands for.

    Raises
    ------
    ParameterError
        `cuda` is asked for, and there is none.
    """
    there = torch.cuda.is_available()
    if named == "cuda" and not there:
        raise ParameterError("device cuda: torch sees no GPU here; take cpu or auto")
    return torch.device("cuda", 0) if there and named != "cpu" else torch.device("cpu")


def answer_of(run: FinishedRun, model: str = "") -> Answer:
    """Return how a run answers: by its vote, or by one model, whose refit answers where it is done.

    Parameters
    ----------
    run : FinishedRun
        The run.
    model : str
        A model's name; empty for the vote.

    Raises
    ------
    FileNotFoundError
        There is no such model, or 30 has not run.
    """
    if not model:
        return read_answer(run.folder)
    [folder] = trained_models(run.cfg, [model])
    answering = {model: folder} | refits_of({model: folder})
    return Answer((single(model),), answering, "centre")


def cache_side(run: FinishedRun) -> int:
    """Return the longest shorter side of the run's prepared pictures, px."""
    cached = run.inventory.loc[run.inventory["cached"] != "", "cached"]
    # The folder of a picture in the cache is its side.
    side = cached.iloc[0].partition("/")[0] if len(cached) else ""
    return int(side) if side.isdigit() else int(run.parameters(FIRST)["cache_side"])


def predict_photos(
    run: FinishedRun,
    photos: Sequence[str | Path] | str | Path,
    *,
    top: int = 5,
    model: str = "",
    device: str = "auto",
    say: Say = print,
) -> pd.DataFrame:
    """Answer photos as the run answers its test images, but for the balancing of 40.

    They are decoded into pictures of the run's size and prepared as at test. Nothing of the run is
    changed; pictures and arrays lie in a temporary folder (`$TMPDIR`) while they are needed.

    Parameters
    ----------
    run : FinishedRun
        The run.
    photos : str, Path, or a sequence of them
        Files and folders; see `find_photos`.
    top : int
        How many classes are given for each photo.
    model : str
        One model that answers in place of the ensemble.
    device : str
        `cpu`, `cuda`, or `auto`: a GPU where there is one.
    say : callable
        Gets lines for people.

    Returns
    -------
    DataFrame
        A row a file, in order. photo; class, probability, class_2, probability_2 and so on: the
        likeliest classes, with the ensemble's scores brought to a sum of one; p_none, the
        probability of 01's noise model that the photo shows nothing of the contest's kind, missing
        where there is none; shows_none, whether 01 would leave it out for that; error, why a file
        cannot be read, is none by its name, or what is missing of it. A file without a picture has
        empty classes.

    Raises
    ------
    ParameterError, FileNotFoundError, UnreadableFile
        Before any work: a number or a device is wrong, a photo, a model or the ensemble's answer is
        not there.
    """
    if top < 1:
        raise ParameterError(f"top {top}: at least one class is given for each photo")
    named = [photos] if isinstance(photos, str | Path) else list(photos)
    found, answer = find_photos(named), answer_of(run, model)
    place = device_of(device)
    processes = Processes(device=place, workers=workers_of(place.type, -1))
    noise, said = noise_model(run)
    if said:
        say(said)
    names = ", ".join(answer.members)
    kept = found["reason"] == ""
    say(f"{int(kept.sum())} photos, answered by {names} on {place}")
    with tempfile.TemporaryDirectory(prefix="fgvc-predict-") as folder:
        asked = _Answering(run, answer, noise, Path(folder), processes)
        todo = found.index[kept]
        parts = [
            asked.of(found.loc[todo[start : start + TOGETHER]], top)
            for start in range(0, len(todo), TOGETHER)
        ]
    answered = pd.concat(parts) if len(parts) > 1 else parts[0]
    told = found[["photo"]].join(answered)
    told["error"] = told["error"].fillna(found["reason"])
    texts = [name for name in told if name == "class" or name.startswith("class_")]
    told[texts] = told[texts].fillna("")
    told["shows_none"] = told["shows_none"].fillna(False).astype(bool)
    unread = kept & (told["class"] == "")
    say(
        f"{int((kept & ~unread).sum())} answered, {int(unread.sum())} cannot be read, "
        f"{int((~kept).sum())} files are none by their names"
    )
    return told


class _Answering:
    """The networks of an answer, and what is made of what they say."""

    def __init__(
        self,
        run: FinishedRun,
        answer: Answer,
        noise: NoiseModel | None,
        folder: Path,
        processes: Processes,
    ) -> None:
        self.answer, self.noise, self.folder, self.processes = answer, noise, folder, processes
        self.side = cache_side(run)
        wanted = {place: {"logits"} for place in answer.members.values()}
        self.noise_folder = noise and noise.fitted(folder / "noise", processes)
        if self.noise_folder:
            wanted[self.noise_folder] = {"logits"}
        self.asked = Asked(wanted, answer.test_view)

    def of(self, photos: pd.DataFrame, top: int) -> pd.DataFrame:
        """What `predict_photos` says of some photos, by their index."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            there = prepared(photos, Path(folder) / "cache", self.side)
            seen = there[there["file"] != ""]
            told = there[["error"]].copy()
            if len(seen):
                made = self.asked.show(seen, Path(folder) / "arrays", self.processes)
                told = told.join(self._told(seen, made, top))
            else:
                told = told.assign(**{"class": "", "p_none": np.nan, "shows_none": False})
        return told[[*(name for name in told if name != "error"), "error"]]

    def _told(self, seen: pd.DataFrame, made: dict[Path, Path], top: int) -> pd.DataFrame:
        scores, classes = self._scores(seen["image_id"], made)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        told: dict[str, np.ndarray] = {}
        for rank in range(best.shape[1]):
            end = f"_{rank + 1}" if rank else ""
            told[f"class{end}"] = np.array(classes, object)[best[:, rank]]
            told[f"probability{end}"] = scores[np.arange(len(best)), best[:, rank]]
        told |= {"p_none": np.full(len(seen), np.nan), "shows_none": np.zeros(len(seen), bool)}
        if self.noise_folder:
            store = Store(made[self.noise_folder.resolve()] / "predictions")
            p = store.probabilities(seen["image_id"])[:, store.classes.index("noise")]
            told |= {"p_none": p, "shows_none": self.noise.trusted & (p > self.noise.threshold)}
        return pd.DataFrame(told, index=seen.index)

    def _scores(self, image_ids: pd.Series, made: dict[Path, Path]) -> tuple[np.ndarray, list[str]]:
        """The answer's probabilities, float32 (photos, classes), and the classes."""
        answer = self.answer
        outputs = MemberOutputs(
            {name: made[place.resolve()] for name, place in answer.members.items()}
        )
        voting = [way.name for way in answer.ways]
        ids = image_ids.tolist()
        scores = vote_scores(outputs, [Part(ids, answer.ways)], voting, ids)
        if answer.calibration is not None:
            return answer.calibration.applied(scores), outputs.classes
        return np.exp(log_probabilities(scores)), outputs.classes
