"""Whether a photo shows nothing of the contest's kind, by the noise model of 01."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fgvc_utils.contest.tables import RULE
from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.core.reading import read_parquet
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import Job, as_written, read_job
from fgvc_utils.jobs.rows import read_rows, write_rows
from fgvc_utils.sharing.runs import FIRST, FinishedRun


@dataclass(frozen=True)
class NoiseModel:
    """The last noise model of 01.

    Attributes
    ----------
    job : Job
        Its job; it kept no weights, so it is fitted again, on the same picks, in about a second.
    threshold : float
        p(noise) above which 01 leaves an image out.
    trusted : bool
        Whether 01 left anything out by it.
    """

    job: Job
    threshold: float
    trusted: bool

    def fitted(self, folder: Path, processes: Processes) -> Path:
        """Fit it into a folder, as 01 did; returns the folder."""
        from fgvc_utils.training.worker import carry_out

        job = self.job.elsewhere(folder, "noise model", keep=[], keep_weights=True)
        # All of them: the random draws of a fit follow the numbers of its rows.
        write_rows(read_rows(self.job).assign(predict=False), Path(job.rows))
        write_json(as_written(job), job.job_file)
        carry_out(job, processes, Progress(None))
        return Path(job.folder)


def noise_model(run: FinishedRun) -> tuple[NoiseModel | None, str]:
    """Find the noise model of a run.

    Returns
    -------
    model : NoiseModel or None
        None where there is none that can be had.
    said : str
        What is to be said of it; empty where all is well.
    """
    report = read_json(run.cfg.report) if run.cfg.report.is_file() else {}
    rounds = report.get(FIRST, {}).get("rounds", 0)
    if not rounds:
        return None, "01 had nothing to learn noise from, so nothing says whether a photo is noise"
    file = run.folder / "work" / FIRST / f"round-{rounds}" / "job.json"
    if not file.is_file():
        return None, f"{file} is gone, so nothing says whether a photo is noise; run 01_noise again"
    job = read_job(file)
    if job.fit != "head":
        return None, "01's noise model was a whole network, which is not kept: no word on noise"
    gone = [store for store in job.stores if not Path(store).is_dir()]
    if gone:
        return None, f"{gone[0]} is gone, from which the noise model learnt; run 01_noise again"
    threshold = run.parameters(FIRST)["threshold"]
    by_hand = str(report[FIRST].get("picks", "")).startswith("picked by hand")
    trusted = by_hand or _was_believed(run, threshold)
    said = "" if trusted else "01 believed none of its noise model's flags: shows_none is never set"
    return NoiseModel(job, threshold, trusted), said


def _was_believed(run: FinishedRun, threshold: float) -> bool:
    """Whether what the model flagged was left out, or nothing was to be."""
    file = run.cfg.table_path(FIRST)
    table = read_parquet(file, "run the notebook 01_noise again", ["cause", "by", "score"])
    flagged = pd.to_numeric(table["score"]) > threshold
    by_rule = (table["cause"] == "noise") & (table["by"] == RULE)
    return bool(by_rule.any() or not flagged.any())
