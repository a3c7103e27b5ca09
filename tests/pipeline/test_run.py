"""The whole way on a tiny drawn contest: pipeline, papermill alone, bad input, odd layouts."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from tiny_contest import PROJECT, TINY_CONTEST, copy_of, environment, run_pipeline

from fgvc_utils.answers.submission import read_log
from fgvc_utils.contest import tables
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.parameters import ParameterError, accumulation
from fgvc_utils.contest.posteriors import read_posteriors
from fgvc_utils.jobs.done import is_done
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import read_job
from fgvc_utils.jobs.rows import fitted_images
from fgvc_utils.pipeline.checking import check
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.pipeline.plan import Planned, print_plan


@pytest.fixture(scope="module")
def finished(finished_contest, tmp_path_factory):
    """The contest after one whole run, in a folder that these tests may change."""
    return copy_of(finished_contest, tmp_path_factory.mktemp("contest") / "copy", TINY_CONTEST)


@pytest.mark.slow
def test_the_submission_holds_every_test_image_once(finished):
    submission = pd.read_csv(finished / "outputs/tiny/submission.csv", dtype=str)
    sample = pd.read_csv(finished / "data/tiny/sample_submission.csv", dtype=str)
    assert list(submission.columns) == list(sample.columns)
    assert sorted(submission["path"]) == sorted(sample["path"])
    listing = pd.read_csv(finished / "data/tiny/train.csv", dtype=str)
    assert set(submission["class"]) <= set(listing["label"])
    log = read_log(finished / "outputs/tiny")
    assert log["file"].tolist() == ["submission.csv"] and log["rule"].tolist() == ["cap"]


@pytest.mark.slow
def test_the_page_of_the_run_tells_all_of_it(finished):
    page = (finished / "outputs/tiny/index.html").read_text("utf-8")
    names = [step.name for step in read_contest(finished / "tiny.yaml")]
    assert f"<b>{len(names)} of {len(names)}</b>" in page and "This cannot be shown" not in page
    assert all(f'<a href="{name}.ipynb">' in page for name in names)
    assert page.count("data:image/jpeg") > 20 and "submission.csv" in page and "vote" in page


@pytest.mark.slow
def test_the_vote_scores_held_out_images_too_so_that_40_can_judge_its_rules(finished):
    run = finished / "outputs/tiny"
    table = tables.read_table(run / "tables/04_lowq.parquet").set_index("image_id")
    voted = table.loc[Store(run / "ensemble/vote").image_ids]
    held_out = voted[voted["split"] == "train"]
    assert len(held_out) and set(held_out["fold"]) == {0} and set(held_out["status"]) == {"keep"}
    report = json.loads((run / "report.json").read_text())["40_submit"]
    assert set(report["gain"]) == {"as assumed", "as estimated"}


@pytest.mark.slow
def test_each_table_is_complete_and_says_why_images_are_left_out(finished):
    files = [p for p in (finished / "data/tiny/train").rglob("*") if p.is_file()]
    for stage in ("01_noise", "02_coarse", "03_fine", "04_lowq"):
        table = tables.read_table(finished / f"outputs/tiny/tables/{stage}.parquet")
        assert (table["split"] == "train").sum() == len(files)
        dropped = table[table["status"] == "drop"]
        assert (dropped["reason"] != "").all() and (dropped["stage"] <= stage).all()
    unreadable = table[table["cause"] == "unreadable"]
    truth = pd.read_csv(finished / "data/tiny/truth/train.csv", dtype=str)
    assert set(unreadable["path"]) == set(truth.loc[truth["kind"] == "corrupt", "path"])


@pytest.mark.slow
def test_cleaning_leaves_out_wrong_labels_more_than_right_ones(finished):
    table = tables.read_table(finished / "outputs/tiny/tables/04_lowq.parquet")
    truth = pd.read_csv(finished / "data/tiny/truth/train.csv", dtype=str).set_index("path")
    train = table[table["split"] == "train"]
    kind = train["path"].map(truth["kind"])
    flagged = (train["status"] == "drop") | (train["label"] != train["given"])
    dropped = flagged.groupby(kind == "ok").mean()
    assert dropped[False] > dropped[True] + 0.25


@pytest.mark.slow
def test_what_the_bars_do_to_a_held_out_fold_is_shown_and_in_the_report(finished):
    run = finished / "outputs/tiny"
    report = json.loads((run / "report.json").read_text())
    assert report["02_coarse"]["held_out_by_bar"] == {} == report["02_coarse"]["planted"]
    measured = report["03_fine"]["held_out_by_bar"]
    bars = measured["bars"]
    assert list(bars) == ["everything", "0.1", "0.3", "0.5", "0.7", "0.9", "likeliest"]
    assert [name for name, row in bars.items() if row["in_force"]] == ["likeliest"]
    left_out = [row["left_out"] for row in list(bars.values())[:-1]]
    assert left_out == sorted(left_out) and left_out[0] == 0
    assert all(0 < row["by_labels"] <= 1 for row in bars.values() if row["learns"] > 20)
    assert 30 < measured["images"] < 150
    assert len(list((run / "work/03_fine").glob("bar-probe-*"))) <= 7
    shown = (run / "03_fine.ipynb").read_text()
    assert "What the bars do to a held-out fold" in shown


@pytest.mark.slow
def test_the_run_is_scored_by_what_its_table_says(finished):
    truth_folder = finished / "data/tiny/truth"
    command = [sys.executable, "benchmarks/score_run.py", finished / "outputs/tiny", truth_folder]
    scored = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    figures = json.loads(scored.stdout.splitlines()[-1])
    table = tables.read_table(finished / "outputs/tiny/tables/04_lowq.parquet")
    truth = pd.read_csv(truth_folder / "train.csv", dtype=str).set_index("path")
    train = table[table["split"] == "train"]
    wrong = train["path"].map(truth["kind"]) != "ok"
    flagged = (train["status"] == "drop") | (train["label"] != train["given"])
    recall = flagged[wrong].mean()
    assert figures["recall"] == pytest.approx(recall, abs=1e-3)
    assert figures["dropped"]["corrupt"] == 1
    assert figures["n_test"] == 24


@pytest.mark.slow
def test_a_second_call_skips_everything_and_a_changed_parameter_only_what_follows(finished):
    again = run_pipeline(finished)
    assert again.returncode == 0
    assert again.stdout.count("done before") == len(read_contest(finished / "tiny.yaml"))
    other = TINY_CONTEST | {"outputs": str(finished / "outputs"), "40_submit": {"rule": "plain"}}
    (finished / "plain.yaml").write_text(yaml.safe_dump(other))
    dry = run_pipeline(finished, "--dry-run", file="plain.yaml")
    running = [line for line in dry.stdout.splitlines() if ": run, " in line]
    assert running == ["40_submit: run, changed: rule, known_count"]


@pytest.mark.slow
def test_executed_notebooks_show_what_a_person_would_be_asked(finished):
    for stage, galleries in {"01_noise": 2, "02_coarse": 1, "03_fine": 1, "04_lowq": 1}.items():
        executed = nbformat.read(finished / f"outputs/tiny/{stage}.ipynb", as_version=4)
        shown = [
            out.data
            for cell in executed.cells
            for out in cell.get("outputs", [])
            if "data" in out
            and "open this notebook in JupyterLab" in out.data.get("text/plain", "")
        ]
        # A second one of 04 is shown where something is found of whole classes.
        assert len(shown) == galleries or (stage == "04_lowq" and len(shown) == 2), stage
        assert all("image/png" in data for data in shown), stage


def outputs_of(notebook: Path) -> list:
    """All outputs of an executed notebook, in order."""
    cells = nbformat.read(notebook, as_version=4).cells
    return [out for cell in cells for out in cell.get("outputs", [])]


@pytest.mark.slow
def test_a_trained_model_is_shown_from_every_side(finished):
    run = finished / "outputs/tiny"
    outputs = outputs_of(run / "10_train-one.ipynb")
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    # Class sizes, the sheet of changes, rates of two optimisers, live and final curves, accuracy
    # by class size, sisters, worst mistakes, test ratios.
    assert len(pictures) == 10
    printed = "".join(out.get("text", "") for out in outputs)
    assert "pictures are read decoded, at 110 px and 130 px" in printed
    log = pd.read_csv(run / "models/one/log.csv")
    assert {"lr", "images_per_second", "waiting"} <= set(log) and len(log) == 4
    for optimiser in ("radam", "sgd"):
        rates = pd.read_csv(run / "models/one/rates" / optimiser / "rates.csv")
        assert rates["lr"].is_monotonic_increasing
    heads = re.findall("<th>([^<]+)</th>", outputs[-1]["data"]["text/html"])
    assert {"model", "top1", "low", "high", "images_per_second"} <= set(heads)


@pytest.mark.slow
def test_fits_begin_with_probes_and_models_and_show_it(finished):
    run = finished / "outputs/tiny"
    outputs = outputs_of(run / "10_train-two.ipynb")
    printed = "".join(out.get("text", "") for out in outputs)
    assert "the held-out images prefer the tuned share" in printed
    shown = [out["data"].get("text/html", "") for out in outputs if "data" in out]
    assert any("<th>decay</th>" in text for text in shown)
    models = run / "models"
    for model, probe in (("two", "decay-0.01"), ("clean", "decay-0.01")):
        job = read_job(models / model / "job.json")
        assert Path(job.probe) == models / model / "probe" / probe / "weights.safetensors"
        assert is_done(job) and is_done(read_job(Path(job.probe).parent / "job.json"))
    assert {path.name for path in (models / "two/shares").iterdir()} == {"0", "0.5", "1"}
    student = read_job(models / "student" / "job.json")
    assert (student.start, student.size) == ("one", 80)
    assert Path(student.start_weights) == models / "one" / "weights.safetensors"


@pytest.mark.slow
def test_a_probe_reads_what_01_stored_and_is_a_member_and_a_teacher(finished):
    run = finished / "outputs/tiny"
    printed = "".join(o.get("text", "") for o in outputs_of(run / "10_train-probe.ipynb"))
    assert "features tf_efficientnet_lite0 at 96 px: done before" in printed
    # Ordinary logistic regression on frozen features: far above the tenth that chance gives.
    probe = json.loads((run / "models/probe/done.json").read_text())
    assert probe["figures"]["top1"] > 0.3 and probe["figures"]["n"] > 20
    report = json.loads((run / "report.json").read_text())
    ensemble = report["30_ensemble"]
    assert "probe" in ensemble["members"] and ensemble["refitted"] == ["probe"]
    assert set(ensemble["calibration"]) == {"none", "temperature", "bias"}
    test = set(Store(run / "models/probe/refit/predictions").image_ids)
    assert test and not test & fitted_images(run / "models/probe/refit")
    assert fitted_images(run / "models/probe") < fitted_images(run / "models/probe/refit")
    assert report["20_distill-clean"]["teachers"] == ["one", "probe", "two"]
    assert report["20_distill-student"]["teachers"] == ["one", "two"], "it is shown no views"


@pytest.mark.slow
def test_models_of_the_last_table_learn_from_the_posteriors_of_03(finished):
    run = finished / "outputs/tiny"
    rows = read_posteriors(run / "tables/03_fine-posteriors.parquet")
    table = tables.read_table(run / "tables/04_lowq.parquet")
    kept = table.index[tables.kept(table)]
    total = rows.groupby("image_id")["probability"].sum()
    assert set(kept) <= set(total.index) and total.max() <= 1.001
    steps = [s for s in read_contest(finished / "tiny.yaml") if s.stage == "10_train"]
    assert any(step.cfg.reads_posteriors for step in steps)
    for step in steps:
        job = read_job(run / "models" / step.cfg.name / "job.json")
        assert bool(job.soft_labels) == step.cfg.reads_posteriors
        if job.soft_labels:
            soft = Store(Path(job.soft_labels))
            assert set(soft.image_ids) & fitted_images(Path(job.folder))


def test_students_hear_their_teachers_on_their_own_views_or_on_unseen_images(finished):
    models = finished / "outputs/tiny/models"
    for teacher in ("one", "two"):
        store = Store(models / "student/views" / teacher / "predictions")
        assert store.kinds() == ["view-0", "view-1"]
        assert set(store.image_ids) == fitted_images(models / "student")
    unseen = fitted_images(models / "clean")
    assert unseen and not unseen & fitted_images(models / "one") & fitted_images(models / "two")
    printed = "".join(
        out.get("text", "") for out in outputs_of(finished / "outputs/tiny/20_distill-clean.ipynb")
    )
    assert "are left out because every teacher was trained on them" in printed


@pytest.mark.slow
def test_a_required_review_stops_there_and_says_what_to_do(finished):
    # A copy, so that the stage that stops leaves the others' run as it is.
    run = finished / "outputs" / "required"
    shutil.copytree(finished / "outputs" / "tiny", run)
    required = {**TINY_CONTEST["03_fine"], "require_review": True}
    other = TINY_CONTEST | {"run": "required", "outputs": str(finished / "outputs")}
    (finished / "required.yaml").write_text(yaml.safe_dump(other | {"03_fine": required}))
    before = (run / "tables/03_fine.parquet").read_bytes()
    stopped = run_pipeline(finished, "--only", "03_fine", file="required.yaml")
    assert stopped.returncode != 0
    said = stopped.stdout + stopped.stderr
    assert "are not decided yet" in said and "require_review: false" in said
    assert (run / "tables/03_fine.parquet").read_bytes() == before
    assert any("image/png" in out.get("data", {}) for out in outputs_of(run / "03_fine.ipynb"))


@pytest.mark.slow
def test_only_and_from_choose_the_stages(finished):
    only = run_pipeline(finished, "--dry-run", "--only", "03_fine").stdout
    assert [line.split(":")[0] for line in only.splitlines() if ": run," in line] == ["03_fine"]
    later = run_pipeline(finished, "--dry-run", "--from", "30_ensemble").stdout
    chosen = [line.split(":")[0] for line in later.splitlines() if ": run," in line]
    assert chosen == ["30_ensemble", "40_submit"]


def by_hand(folder: Path, stage: str, *parameters: str) -> str:
    """Run a notebook alone, with the contest's file and nothing else named; what it printed."""
    executed = folder / "alone.ipynb"
    command = [
        sys.executable, "-m", "papermill", f"notebooks/{stage}.ipynb", str(executed),
        "-p", "contest", str(folder / "tiny.yaml"), "--no-progress-bar", *parameters,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=environment(folder),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return "".join(out.get("text", "") for out in outputs_of(executed))


@pytest.mark.slow
def test_looking_at_a_finished_run_by_hand_changes_nothing(finished):
    """No job runs, no second submission is written, and no step becomes stale."""
    run = finished / "outputs/tiny"

    def jobs():
        done = [path for path in run.rglob("done.json") if (path.parent / "job.json").is_file()]
        launches = [path for path in (run / "launches").rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in [*done, *launches]}

    def results():
        files = [*run.glob("tables/*.parquet"), *run.glob("submission*.csv")]
        return {path: path.read_bytes() for path in files}

    before = jobs(), results()
    assert len(list(run.glob("submission*.csv"))) == 2, "one submission, and the list of them"
    for stage in (name for name in TINY_CONTEST if name[:2].isdigit()):
        printed = by_hand(finished, stage)
        assert "not as in the file" not in printed, stage
        assert (jobs(), results()) == before, stage
    # Names the step, where one became stale.
    dry = run_pipeline(finished, "--dry-run").stdout
    assert dry.count("skip, done before") == len(read_contest(finished / "tiny.yaml")), dry


@pytest.mark.slow
def test_a_human_decision_beats_the_rule_when_the_notebook_runs_alone(finished):
    folder = finished / "outputs" / "tiny"
    before = tables.read_table(folder / "tables/03_fine.parquet")
    image = before.loc[before["stage"] == "03_fine", "image_id"].iloc[0]
    journal = Journal(folder / "decisions/03_fine.csv")
    journal.append(image, "keep", reviewer="test")
    by_hand(finished, "03_fine")
    after = tables.read_table(folder / "tables/03_fine.parquet").set_index("image_id")
    assert after.loc[image, "status"] == "keep"
    assert after.loc[image, ["by", "cause"]].tolist() == ["human", "confirmed"]
    assert len(journal.read()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["-p", "sise", "64"], "sise"),
        (["-p", "run", "007"], "write it as text"),
        (["-p", "rate", "fast"], "rate"),
        (["-p", "threshold", "1.5"], "threshold"),
    ],
)
def test_plain_papermill_refuses_bad_parameters_before_any_work(tmp_path, parameters, message):
    out = tmp_path / "out.ipynb"
    command = [
        sys.executable, "-m", "papermill", "notebooks/01_noise.ipynb", str(out),
        "--no-progress-bar", *parameters,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode != 0
    assert "ParameterError" in done.stderr and message in done.stderr
    ran = [c for c in nbformat.read(out, 4).cells if c.cell_type == "code" and c.execution_count]
    assert len(ran) <= 4


def contest_file(folder: Path, text: str) -> Path:
    file = folder / "contest.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run: a\nrunn: b\n10_train:\n", "'runn' is neither a stage"),
        ("run: a\n30_ensembel:\n", "check the spelling; near it is '30_ensemble'"),
        ("run: a\n10_train:\n  - name: x\n    epochz: 3\n", "section 10_train, 'x': "),
        ("run: a\n10_train:\n  epochz: 3\n", "epochz"),
        ("run: a\n10_train:\n  epochs: many\n", "epochs = 'many'"),
        ("run: 12\n10_train:\n", "run = 12"),
        ("run: a\n10_train:\n\tepochs: 3\n", "not valid YAML"),
        ("run: a\nrun: b\n10_train:\n", "'run' appears twice"),
        ("run: a\n10_train:\n  - name: x\n  - name: x\n", "10_train-x appears twice"),
        ("run: a\n11_train:\n", "11_train"),
        ("run: a\n", "names no stage"),
        ("", "holds no parameters"),
        ("run: a/../b\n10_train:\n", "run = 'a/../b'"),
    ],
)
def test_a_bad_contest_file_is_refused_with_the_place_named(tmp_path, text, message):
    with pytest.raises(ParameterError, match="contest.yaml|line") as caught:
        read_contest(contest_file(tmp_path, text))
    assert message in str(caught.value)


def test_a_number_written_as_text_is_that_number(tmp_path):
    file = contest_file(tmp_path, "run: a\n10_train:\n  base_lr: 1e-3\n")
    assert read_contest(file)[0].cfg.base_lr == 0.001


def test_the_whole_contest_is_checked_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("FGVC_DATA", str(tmp_path / "nowhere"))
    text = "run: a\n10_train:\n  backbone: no_such_net\n20_distill:\n  micro_batch: 7\n"
    problems = check(read_contest(contest_file(tmp_path, text))).errors
    assert "FGVC_DATA" in problems[0]
    assert "10_train: backbone 'no_such_net'" in problems[1]
    assert "20_distill: global_batch 32 is not a multiple" in problems[2]
    assert all("04_lowq is not there and no stage" in problem for problem in problems[3:5])
    assert len(problems) == 5


@pytest.mark.parametrize("file", sorted((PROJECT / "params").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_contest_file_that_ships_is_right(file):
    steps = read_contest(file)
    assert [s.stage for s in steps][0] == "01_noise"
    assert steps[-1].stage == "40_submit"


def test_the_plan_says_how_a_step_is_cut(tmp_path, capsys):
    def planned(**settings):
        file = tmp_path / "cut.yaml"
        given = {"run": "a", "10_train": {"global_batch": 96} | settings}
        file.write_text(yaml.safe_dump(given | {"processes": 2}))
        step = next(s for s in read_contest(file) if s.stage == "10_train")
        print_plan([Planned(step, "asked for", True)])
        return capsys.readouterr().out

    assert "a step of 96 = 2 processes × 16 images × 3 accumulated" in planned(micro_batch=16)
    assert "a step of 96 = 2 processes × 48 images, in as few pieces as memory holds" in planned(
        micro_batch=0
    )
    assert "global_batch 97 is not a multiple of 2" in planned(global_batch=97, micro_batch=0)


def test_the_original_contest_has_the_original_figures():
    steps = {s.name: s.cfg for s in read_contest(PROJECT / "params/webfg5000.yaml")}
    b4 = steps["10_train-b4-prior"]
    assert (b4.backbone, b4.size, b4.global_batch) == ("tf_efficientnet_b4", 380, 2000)
    assert (b4.label_smoothing, b4.base_lr) == (0.2, 0.03)
    assert (b4.train_ratio, b4.test_ratio) == (1.15, 1.35)
    assert accumulation(b4.global_batch, b4.micro_batch, b4.processes * b4.nodes).steps == 1
