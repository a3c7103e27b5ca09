"""When a stage is done: stamps, plans and locks, with notebooks that only write a line each."""

import json
import shutil
import subprocess
import sys
import time

import nbformat
import pytest
import yaml

from fgvc_utils.answers.submission import keep_submission
from fgvc_utils.contest.places import NOTEBOOKS
from fgvc_utils.core import locks
from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.jobs import sources
from fgvc_utils.pipeline import plan as planning
from fgvc_utils.pipeline import running, stamps
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.pipeline.plan import print_plan
from fgvc_utils.pipeline.running import execute, main
from fgvc_utils.pipeline.stamps import accept_code, code_of, inputs_of, why

CONTEST = {
    "run": "mine",
    "data_root": "mine",
    "01_noise": {},
    "02_coarse": {},
    "03_fine": {},
    "10_train": [{"name": "one"}, {"name": "two"}],
    "20_distill": [{"name": "student", "teachers": ["two"]}],
    "30_ensemble": {"models": ["one", "student"], "table": "03_fine"},
    "40_submit": {"table": "03_fine", "known_count": 3},
}
for _section in CONTEST["10_train"] + CONTEST["20_distill"]:
    _section["table"] = "03_fine"


@pytest.fixture
def contest(tmp_path, monkeypatch):
    """A contest whose notebooks write what their stage writes, made of what they read."""
    (tmp_path / "mine/train/a").mkdir(parents=True)
    (tmp_path / "mine/train/a/1.jpg").write_bytes(b"1")
    (tmp_path / "mine/test").mkdir()
    monkeypatch.setenv("FGVC_DATA", str(tmp_path))
    ran, steps = [], []

    def run_notebook(source, output, parameters):
        step = next(s for s in steps if s.output == output)
        ran.append(step.name)
        cfg, folder = step.cfg, step.cfg.folder
        # 01 finds the same whatever its threshold is.
        told = {k: v for k, v in parameters.items() if k not in {"threshold"}}
        text = json.dumps([step.stage, told, inputs_of(step)], default=str)
        if step.stage == "30_ensemble":
            text = json.dumps({"files": {}, "of": text})
        written = {
            "30_ensemble": folder / "ensemble/vote/index.json",
            "40_submit": folder / "submission.csv",
        }.get(step.stage, cfg.table_path(step.stage))
        if step.stage in ("10_train", "20_distill"):
            written = folder / "models" / cfg.name / "done.json"
            taught = ["two"] if step.stage == "20_distill" else []
            write_json({"teachers": taught}, written.parent / "job.json")
            text = json.dumps({"result": text})
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(text)
        if step.stage == "01_noise":
            cfg.table_path("inventory").write_text(str(cfg.cache_side))

    def read(**changes):
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(CONTEST | {"outputs": str(tmp_path / "out")} | changes))
        steps[:] = read_contest(file)
        return list(steps)

    def run(**changes):
        ran.clear()
        for step in read(**changes):
            if why(step):
                execute(step)
        return list(ran)

    monkeypatch.setattr(running, "run_notebook", run_notebook)
    run.read, run.folder = read, tmp_path / "out" / "mine"
    return run


def planned(steps, first=None, only=None):
    """Step → what is planned for it, as it would be printed."""
    return {
        p.step.name: ("run: " if p.sure else "may run: ") + p.reason if p.reason else "skip"
        for p in planning.plan(steps, first, only)
    }


def test_a_second_run_does_nothing_and_a_changed_cap_runs_40_alone(contest):
    assert len(contest()) == 8
    assert contest() == []
    assert contest(**{"40_submit": {"table": "03_fine", "known_count": 4}}) == ["40_submit"]


def test_models_follow_the_posteriors_that_they_learn_from(contest):
    one, two = ({"name": name, "table": "03_fine"} for name in ("one", "two"))
    models = {"10_train": [one, two | {"soft_labels": False}]}
    contest(**models)
    left = contest.folder / "tables" / "03_fine-posteriors.parquet"
    left.write_text("others")
    plan = planned(contest.read(**models))
    assert plan["10_train-one"] == "run: changed: tables/03_fine-posteriors.parquet"
    assert plan["10_train-two"] == "skip"


def test_a_fit_that_begins_from_a_model_follows_it(contest):
    one, two = ({"name": name, "table": "03_fine"} for name in ("one", "two"))
    models = {"10_train": [one, two | {"start": "one"}]}
    contest(**models)
    assert set(planned(contest.read(**models)).values()) == {"skip"}
    models = {"10_train": [one | {"epochs": 3}, two | {"start": "one"}]}
    plan = planned(contest.read(**models))
    assert plan["10_train-two"] == "may run: it reads what 10_train-one writes anew"
    assert contest(**models)[:2] == ["10_train-one", "10_train-two"]
    # Without its start it is another fit, which no other model makes stale.
    contest()
    plan = planned(contest.read(**{"10_train": [one | {"epochs": 5}, two]}))
    assert plan["10_train-two"] == "skip"


def test_a_model_that_the_contest_file_does_not_make_neither_votes_nor_teaches_unasked(contest):
    asked = {"30_ensemble": {"models": [], "table": "03_fine"}}
    asked |= {"20_distill": [{"name": "student", "teachers": [], "table": "03_fine"}]}
    contest(**asked)
    left = contest.folder / "models" / "left"
    write_json({"teachers": []}, left / "job.json")
    write_json({"result": "1"}, left / "done.json")
    assert set(planned(contest.read(**asked)).values()) == {"skip"}
    named = asked | {"30_ensemble": {"models": ["one", "left"], "table": "03_fine"}}
    assert planned(contest.read(**named))["30_ensemble"].startswith("run: changed: models")
    seen = asked | {"30_ensemble": {"seen_models": ["left"], "table": "03_fine"}}
    plan = planned(contest.read(**seen))
    assert "models/left" in plan["30_ensemble"] and plan["20_distill-student"] == "skip"
    # One that it makes is read, as before.
    write_json({"result": "2"}, contest.folder / "models" / "one" / "done.json")
    plan = planned(contest.read(**asked))
    assert "models/one" in plan["30_ensemble"] and "models/one" in plan["20_distill-student"]


def test_the_plan_tells_what_follows_from_a_change(contest):
    assert set(planned(contest.read()).values()) == {"run: not done yet"}
    contest()
    assert set(planned(contest.read()).values()) == {"skip"}
    plan = planned(contest.read(**{"02_coarse": {"top": 3}}))
    assert plan == {
        "01_noise": "skip",
        "02_coarse": "run: changed: top",
        "03_fine": "may run: it reads what 02_coarse writes anew",
        "10_train-one": "may run: it reads what 03_fine writes anew",
        "10_train-two": "may run: it reads what 03_fine writes anew",
        "20_distill-student": "may run: it reads what 03_fine, 10_train-two writes anew",
        "30_ensemble": "may run: it reads what 03_fine, 10_train-one, 20_distill-student "
        "writes anew",
        "40_submit": "may run: it reads what 03_fine, 30_ensemble writes anew",
    }
    assert contest(**{"02_coarse": {"top": 3}}) == [
        name for name, text in plan.items() if text != "skip"
    ]
    models = [{"name": "one", "table": "03_fine"}, {"name": "two", "table": "03_fine", "seed": 1}]
    plan = planned(contest.read(**{"02_coarse": {"top": 3}, "10_train": models}))
    assert [name for name, text in plan.items() if text != "skip"] == [
        "10_train-two",
        "20_distill-student",
        "30_ensemble",
        "40_submit",
    ]


def test_a_stage_that_comes_out_as_before_makes_no_other_one_run(contest):
    contest()
    plan = planned(contest.read(**{"01_noise": {"threshold": 0.8}}))
    assert plan["01_noise"] == "run: changed: threshold"
    assert plan["02_coarse"] == "may run: it reads what 01_noise writes anew"
    assert plan["40_submit"].startswith("may run")
    assert contest(**{"01_noise": {"threshold": 0.8}}) == ["01_noise"]


def test_pictures_of_another_size_reach_all_that_read_pictures(contest):
    contest()
    ran = contest(**{"01_noise": {"cache_side": 200}})
    assert ran[:3] == ["01_noise", "02_coarse", "03_fine"]


def test_changed_code_is_named_and_accepted_where_asked(contest, monkeypatch):
    contest()
    real = code_of
    monkeypatch.setattr(
        stamps,
        "code_of",
        lambda stage: real(stage) | ({"assignment.assign": "0"} if stage == "40_submit" else {}),
    )
    plan = planned(contest.read())
    assert plan.pop("40_submit") == "run: changed code: assignment.assign"
    assert set(plan.values()) == {"skip"}
    monkeypatch.setattr(stamps, "accept_job_code", lambda folder: ["job"])
    assert accept_code(contest.read()) == ["job", "40_submit"]
    assert set(planned(contest.read()).values()) == {"skip"}


def test_another_submission_in_force_is_named(contest):
    contest()
    keep_submission(contest.folder, "path,class\na.jpg,a\n", {})
    keep_submission(contest.folder, "path,class\na.jpg,b\n", {})
    said = planned(contest.read())["40_submit"]
    assert said == "run: submission-003.csv is in force instead of submission.csv"


def test_a_result_that_is_gone_or_another_is_made_again(contest):
    contest()
    (contest.folder / "submission.csv").unlink()
    assert planned(contest.read())["40_submit"] == "run: gone: submission.csv"
    assert contest() == ["40_submit"]
    (contest.folder / "models/two/done.json").write_text('{"result": "another"}')
    plan = planned(contest.read())
    assert plan["10_train-two"] == "run: written by something else since: models/two"
    assert plan["20_distill-student"] == "run: changed: models/two"


def test_where_a_run_lies_and_how_its_machine_is_used_changes_nothing(contest, tmp_path):
    contest()
    moved = tmp_path / "elsewhere" / "theirs"
    moved.parent.mkdir()
    contest.folder.rename(moved)
    steps = contest.read(
        outputs=str(moved.parent), run="theirs", processes=2, threads=3, workers=1, device="cpu"
    )
    assert set(planned(steps).values()) == {"skip"}


def older(step, drop):
    """Let a step's stamp be one of before a parameter, or a field of one, was there."""
    stamp = read_json(step.stamp)
    drop(stamp["parameters"])
    write_json(stamp, step.stamp)


def test_a_parameter_that_a_stamp_does_not_know_counts_by_its_neutral_default(contest):
    contest()
    for step in contest.read():
        if step.stage == "40_submit":
            older(step, lambda parameters: parameters.pop("slack"))
        if step.stage == "03_fine":
            older(step, lambda parameters: [each.pop("seed") for each in parameters["rounds"]])
    assert set(planned(contest.read()).values()) == {"skip"}
    plan = planned(contest.read(**{"40_submit": CONTEST["40_submit"] | {"slack": 2.0}}))
    assert plan["40_submit"] == "run: changed: slack"
    rounds = [{"optimiser": "radam", "seed": 1}, {"optimiser": "adamw", "mirror": False}]
    assert planned(contest.read(**{"03_fine": {"rounds": rounds}}))["03_fine"] == (
        "run: changed: rounds"
    )


def test_a_parameter_that_a_stage_no_longer_has_makes_nothing_stale(contest):
    contest()
    for step in contest.read():
        older(step, lambda parameters: parameters.update(gone=1))
    assert set(planned(contest.read()).values()) == {"skip"}


@pytest.fixture
def notebooks(monkeypatch, tmp_path):
    """A copy of the notebooks that the stamps look at and a test may change."""
    changed = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, changed)
    monkeypatch.setattr(stamps, "NOTEBOOKS", changed)

    def change(*pairs, stage="40_submit"):
        path = changed / f"{stage}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for old, new in pairs:
            cells = [c for c in notebook.cells if c.cell_type == "code" and old in c.source]
            assert cells, old
            for cell in cells:
                cell.source = cell.source.replace(old, new)
        nbformat.write(notebook, path)

    change.folder = changed
    return change


def test_parameters_cell_and_prose_of_a_notebook_make_nothing_stale(contest, notebooks):
    contest()
    for path in notebooks.folder.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source += "\n\nMore prose."
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += "\nlater: int = 3  # a parameter to come"
        nbformat.write(notebook, path)
    assert set(planned(contest.read()).values()) == {"skip"}


def test_captions_pictures_and_messages_of_a_notebook_make_nothing_stale(contest, notebooks):
    contest()
    notebooks(
        ("images that changed class, largest loss first", "changed"),
        ("limit=24", "limit=12"),
        ("images changed class", "images moved"),
        ("plots.assigned(plain, chosen", "plots.assigned(chosen, chosen"),
    )
    assert set(planned(contest.read()).values()) == {"skip"}


def test_another_step_in_a_cell_makes_its_stage_stale(contest, notebooks):
    contest()
    notebooks(("cfg.seed + cfg.top", "cfg.seed"), stage="03_fine")
    assert planned(contest.read())["03_fine"] == "run: changed code: notebook"


def test_other_versions_are_told_and_make_nothing_run(contest, monkeypatch, capsys):
    contest()
    monkeypatch.setattr(sources, "versions", lambda: {"torch": "99.0"})
    print_plan(planning.plan(contest.read(), None, None))
    said = capsys.readouterr().out
    assert "40_submit: skip, done before\n    it was made with torch 2" in said
    assert "--from 40_submit makes it anew" in said


@pytest.mark.parametrize(
    ("spoilt", "why_it_runs"),
    [
        ('{"parameters": {}}', "lacks inputs"),
        ("{}", "lacks parameters, inputs"),
        ('{"parameters": {}, "inputs": []}', "holds no values by name in inputs"),
        ('{"parameters": {}, "inputs": {}, "code": 1}', "holds no values by name in code"),
        ("[]", "holds no values by name"),
        ('{"parameters": {', "is not valid JSON"),
    ],
)
def test_a_stamp_that_is_spoilt_is_none_and_the_reason_is_told(
    contest, monkeypatch, spoilt, why_it_runs
):
    monkeypatch.setattr(stamps, "accept_job_code", lambda folder: [])
    contest()
    (step,) = [each for each in contest.read() if each.stage == "03_fine"]
    step.stamp.write_text(spoilt)
    plan = planned(contest.read())
    assert plan["03_fine"] == f"run: its stamp stages/03_fine.json {why_it_runs}"
    assert plan["02_coarse"] == "skip"
    accept_code(contest.read())
    assert step.stamp.read_text() == spoilt, "what is not done is not accepted"
    # It comes out as before, so that nothing after it runs.
    assert contest() == ["03_fine"] and contest() == []


def test_a_plan_for_one_stage_takes_none_of_the_others_for_done(contest, capsys):
    contest.read()
    print_plan(planning.plan(contest.read(), None, "01_noise"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert lines[0] == "01_noise: run, asked for"
    assert {line.partition(": ")[2] for line in lines[1:]} == {"skip, not asked for"}


def test_a_stage_that_is_cut_off_is_not_done_whatever_it_was_before(contest, monkeypatch):
    contest()

    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_notebook", cut_off)
    steps = contest.read()
    with pytest.raises(KeyboardInterrupt):
        execute(steps[1])
    assert planned(steps)["02_coarse"] == "run: not done yet"


def test_a_stamp_tells_of_what_was_read_before_the_work(contest, monkeypatch):
    contest()
    steps = contest.read()
    real, journal = running.run_notebook, steps[1].cfg.journal("02_coarse")

    def decide_meanwhile(*arguments):
        real(*arguments)
        journal.parent.mkdir(exist_ok=True)
        journal.write_text("a decision")

    monkeypatch.setattr(running, "run_notebook", decide_meanwhile)
    execute(steps[1])
    assert planned(steps)["02_coarse"] == "run: changed: decisions/02_coarse.csv"
    assert "versions" in read_json(steps[1].stamp)


HOLD = """
import sys
from pathlib import Path
from fgvc_utils.core.locks import only_one
with only_one(Path(sys.argv[1]), "work goes on", "wait"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_tells_who_holds_it_and_is_free_once_its_holder_is_killed(tmp_path):
    file = tmp_path / "deep" / ".lock"
    command = [sys.executable, "-c", HOLD, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(locks.Held) as caught:
            with locks.only_one(file, "a launch runs", "end it"):
                raise AssertionError("two hold it")
        said = str(caught.value)
        assert said.startswith(f"a launch runs (process {holder.pid} on ")
        assert f"since {time.strftime('%Y-')}" in said and said.endswith("; end it")
        assert str(file) in said, "the command is told"
        holder.kill()
    for _ in range(2):
        with locks.only_one(file, "a launch runs", "end it"):
            assert str(file) not in file.read_text()
    assert file.read_text() == ""


def test_a_second_pipeline_says_who_holds_the_run(contest, tmp_path, capsys, monkeypatch):
    contest.read()
    lock = contest.folder / ".pipeline.lock"
    monkeypatch.setattr(running, "print_check", lambda steps: True)
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert main([str(tmp_path / "mine.yaml")]) == 2
        said = capsys.readouterr().err
        assert f"another pipeline works on the run 'mine' in {tmp_path}/out (process" in said
        assert str(holder.pid) in said and "another `run`" in said
        # To look at the plan disturbs nobody.
        assert main([str(tmp_path / "mine.yaml"), "--dry-run"]) == 0
        holder.stdin.close()
