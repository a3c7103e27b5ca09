"""ViT, ConvNeXt and EfficientNet, tiny, with random weights, each from images to an answer."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_contest import run_pipeline

from fgvc_utils.demo.drawing import TINY, draw_demo
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.records import read_job
from fgvc_utils.jobs.rows import read_rows
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.worker import carry_out

pytestmark = pytest.mark.slow
# The processes of each, and what its recipe has beside the others'.
FAMILIES = {
    "test_vit": (2, {"lora_rank": 2, "optimiser": "adamw", "base_lr": 0.002}),
    "test_convnext": (2, {"optimiser": "adamw", "layer_decay": 0.8, "base_lr": 0.002}),
    "test_efficientnet": (1, {"start_head": "probe", "base_lr": 0.001}),
}
OTHERS = {"test_vit": "test_convnext", "test_convnext": "test_efficientnet"}
OTHERS["test_efficientnet"] = "test_vit"
TRAINED = {"epochs": 1, "mix": "none", "feature_views": 0}


def contest_of(family: str, outputs: Path) -> dict:
    processes, recipe = FAMILIES[family]
    further = {"backbone": OTHERS[family], "weights": "none", "size": 48}
    crossed = {"folds": 2, "further_backbones": [further], "posterior_rounds": 1}
    crossed |= {"averaged_rounds": 1, "planted_share": 0.0}
    return {
        "run": family,
        "outputs": str(outputs),
        "data_root": "tiny",
        "processes": processes,
        "backbone": family,
        "weights": "none",
        "size": 32,
        "cache_side": 64,
        "test_ratios": [],
        "global_batch": 8,
        "micro_batch": 4,
        "01_noise": {"train": "train.csv", "folds": 2, "epochs": 2, "max_rounds": 1},
        "02_coarse": crossed,
        "03_fine": crossed,
        "04_lowq": {},
        "10_train": [{**TRAINED, **recipe, "name": "one"}],
        "20_distill": [{**TRAINED, "name": "student", "variant": "B", "base_lr": 0.002}],
        "30_ensemble": {"mean_sizes": [2], "augmented_models": 0, "plain_models": 0},
        "40_submit": {"known_count": 3, "resamples": 0},
    }


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    draw_demo(folder / "data" / "tiny", **TINY)
    return folder


@pytest.mark.parametrize(
    "family",
    ["test_vit", *(pytest.param(each, marks=pytest.mark.long) for each in list(FAMILIES)[1:])],
)
def test_a_family_goes_all_the_way(drawn, family, tmp_path, one_thread):
    contest = contest_of(family, drawn / "outputs")
    (drawn / f"{family}.yaml").write_text(yaml.safe_dump(contest, sort_keys=False))
    done = run_pipeline(drawn, file=f"{family}.yaml")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = drawn / "outputs" / family
    submission = pd.read_csv(run / "submission.csv", dtype=str)
    sample = pd.read_csv(drawn / "data/tiny/sample_submission.csv", dtype=str)
    assert sorted(submission["path"]) == sorted(sample["path"])
    assert {f.name for f in (run / "features").iterdir()} >= {f"{OTHERS[family]}-48"}
    if FAMILIES[family][0] == 1:
        return
    # None of the two has BatchNorm: one process takes the same steps as two did.
    job = read_job(run / "models/one/job.json")
    alone = job.elsewhere(tmp_path, "alone", keep=[])
    write_job(alone, read_rows(job))
    carry_out(alone, Processes(), Progress(None))
    here, there = (load_file(Path(each.folder) / "weights.safetensors") for each in (alone, job))
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        torch.testing.assert_close(tensor, there[name], atol=1e-4, rtol=1e-3)
