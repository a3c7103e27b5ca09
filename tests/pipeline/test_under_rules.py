"""A contest under the rules of AIC 2026, from raw files to its file, in minutes."""

import json
import re
import zipfile

import pytest
import yaml
from tiny_contest import run_pipeline
from tiny_networks import tiny

from fgvc_utils.answers.submission import current_submission
from fgvc_utils.contest.journal import Journal
from fgvc_utils.demo.drawing import TINY, draw_demo

pytestmark = [pytest.mark.slow, pytest.mark.long]
BATCH = {"global_batch": 8, "micro_batch": 8}
TRAINED = {**BATCH, "epochs": 1, "start_head": "random"}
CROSSED = {"folds": 2, "head_folds": 4, "further_backbones": [], "max_rounds": 1}
CONTEST = {
    "run": "ruled",
    "data_root": "tiny",
    "rules": "aic2026",
    "weights": "none",
    "cache_side": 96,
    "test_ratios": [],
    "01_noise": BATCH,  # the folders are numbers, as the classes of that contest are
    "02_coarse": CROSSED | {"top": 2},
    "03_fine": CROSSED | {"posterior_rounds": 1, "averaged_rounds": 1, "planted_share": 0.0},
    "04_lowq": {},
    "10_train": [{**TRAINED, "name": "one", "refit": True}, {**TRAINED, "name": "two", "seed": 1}],
    "20_distill": {**TRAINED, "name": "student"},
    "30_ensemble": BATCH,
    "40_submit": {
        "sample": "",  # the drawn one has another form
        "image_column": "name",
        "header": False,
        "class_names": "number",
        "class_digits": 4,
        "packing": "zip",
    },
}
AGAINST = {
    "20_distill": CONTEST["20_distill"] | {"variant": "A"},
    "30_ensemble": BATCH | {"mean_sizes": [3]},
}


@pytest.fixture(scope="module")
def contest(tmp_path_factory):
    """The contest with its images and a tiny network of CLIP's kind, run once."""
    folder = tmp_path_factory.mktemp("ruled")
    draw_demo(folder / "data" / "tiny", **TINY | {"train_images": 150})
    backbone, size = tiny(folder / "network", "clip")
    own = {"backbone": backbone, "size": size, "outputs": str(folder / "outputs")}
    write(folder, "ruled.yaml", CONTEST | own)
    write(folder, "against.yaml", CONTEST | own | AGAINST)
    done = run_pipeline(folder, file="ruled.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    return folder, done


def write(folder, name, content):
    (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))


def test_it_runs_from_raw_files_to_its_file_and_says_how_it_kept_the_rules(contest):
    folder, done = contest
    run = folder / "outputs/ruled"
    noted = json.loads((run / "report.json").read_text("utf-8"))["rules"]
    assert noted["preset"] == "aic2026" and noted["verdict"] == "6 of 6 that bind were kept"
    by_rule = {each["rule"]: each for each in noted["rules"]}
    assert by_rule["train_on_test"]["figures"]["with_test"] == {}
    assert by_rule["train_on_test"]["figures"]["training_rows"] > 100
    assert len(by_rule["final_models"]["figures"]["weights"]) == 1
    assert by_rule["hand_cleaning"]["figures"] == {"decisions": {}, "rows_by_people": 0}
    assert "rules aic2026: 6 of 6 that bind were kept" in done.stdout
    assert current_submission(run).name == noted["file"]
    with zipfile.ZipFile(current_submission(run)) as packed:
        (name,) = packed.namelist()
        lines = packed.read(name).decode("utf-8").splitlines()
    assert len(lines) == TINY["test_images"] and name.endswith(".csv")
    assert all(re.fullmatch(r"[^,/]+\.[a-z]+,0\d{3}", line) for line in lines), lines
    again = run_pipeline(folder, file="ruled.yaml")
    assert again.returncode == 0 and again.stdout.count("done before") == 9, again.stdout


def test_a_teacher_on_test_images_an_ensemble_and_a_hand_pick_are_refused(contest):
    folder, _ = contest
    journal = Journal(folder / "outputs/ruled/decisions/03_fine.csv")
    journal.append("nobody/1.jpg", "drop", reviewer="me")
    done = run_pipeline(folder, file="against.yaml")
    assert done.returncode == 2
    refused = [line for line in done.stderr.splitlines() if line.startswith("to mend before")]
    assert [line.split(": ")[1] for line in refused] == ["20_distill", "30_ensemble", "03_fine"]
    assert all("rules aic2026, " in line for line in refused)
    assert "The contest cannot run: 3 to mend" in done.stderr
