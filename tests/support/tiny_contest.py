"""A tiny drawn contest that runs in minutes, and the pipeline on it, for several test modules."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from fgvc_utils.demo.drawing import TINY, draw_demo

PROJECT = Path(__file__).resolve().parents[2]
# More and larger than the smallest set: with fewer images a class nothing can be learned.
SET = TINY | {"train_images": 300, "side": 112}
SMALL = {"global_batch": 8, "micro_batch": 8, "size": 96}
TRAINED = {**SMALL, "mix": "none"}
ORIGINAL = {"preset": "original", "base_lr": 0.008, "rate_sweep_steps": 12}
PROBE = {"start_head": "probe", "start_head_decays": [0.01]}
BEGUN = PROBE | {"swa_epochs": 2, "tuned_share": 0.8, "tuned_shares": [0.0, 0.5, 1.0]}
SMALLER = {"start": "one", "size": 80}
TINY_CONTEST = {
    "run": "tiny",
    "data_root": "tiny",
    "cache_side": 132,
    "test_ratios": [],
    "01_noise": SMALL | {"train": "train.csv"},
    "02_coarse": {**SMALL, "top": 2, "folds": 3, "max_rounds": 1, "further_backbones": []},
    "03_fine": {
        **SMALL,
        "head_folds": 6,
        "posterior_rounds": 1,
        "further_backbones": ["tf_efficientnet_lite1"],
    },
    "04_lowq": {"size": 96},
    "10_train": [
        {**TRAINED, **ORIGINAL, "name": "one", "epochs": 4, "test_ratios": [1.0, 1.35]},
        {**TRAINED, "name": "two", "epochs": 4, "balance": "prior", "held_out_fold": 1, **BEGUN},
        {"name": "probe", "fit": "probe", "size": 96, "test_ratio": 1.15, "refit": True},
    ],
    "20_distill": [
        {**TRAINED, "name": "student", "epochs": 2, "variant": "B", "teacher_views": 2, **SMALLER},
        {**TRAINED, "name": "clean", "epochs": 1, "ema_decay": 0.9, "fold_clean": True, **PROBE},
    ],
    "30_ensemble": {"global_batch": 8, "micro_batch": 8, "convolution_models": 2, "epochs": 5},
    "40_submit": {"known_count": 4},
}


def make_contest(folder: Path, contest: dict = TINY_CONTEST) -> Path:
    """Draw the images under `folder` and write the contest's file, tiny.yaml; returns `folder`."""
    draw_demo(folder / "data" / "tiny", **SET)
    return write_contest(folder, contest)


def copy_of(finished: Path, folder: Path, contest: dict, leave_out: tuple[str, ...] = ()) -> Path:
    """A finished contest again in another folder, which may be changed; returns that folder.

    The images, which nothing changes, are the same files; what the run left are copies.

    Parameters
    ----------
    finished, folder : Path
        The contest's folder, and a new one.
    contest : dict
        What the new tiny.yaml holds; its run keeps its name.
    leave_out : tuple of str
        Names in the run's folder that are not taken over.
    """
    folder.mkdir()
    # Not links file by file, which would change what the run noted of each one's state.
    (folder / "data").symlink_to(finished / "data")
    run = finished / "outputs" / "tiny"

    def others(place: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(place) == run and name in leave_out]

    shutil.copytree(finished / "outputs", folder / "outputs", ignore=others)
    return write_contest(folder, contest)


def write_contest(folder: Path, contest: dict) -> Path:
    """Write the contest's file, tiny.yaml, with its outputs below `folder`; returns `folder`."""
    written = yaml.safe_dump(contest | {"outputs": str(folder / "outputs")}, sort_keys=False)
    (folder / "tiny.yaml").write_text(written)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The environment in which the contest's images are found."""
    return os.environ | {"FGVC_DATA": str(folder / "data")}


def run_pipeline(
    folder: Path, *arguments: str, file: str = "tiny.yaml"
) -> subprocess.CompletedProcess:
    """Run a contest file of `folder` as a user would; the caller looks at the return code."""
    return subprocess.run(
        [sys.executable, "-m", "fgvc_utils.pipeline", str(folder / file), *arguments],
        capture_output=True,
        text=True,
        env=environment(folder),
        cwd=PROJECT,
        check=False,
    )
