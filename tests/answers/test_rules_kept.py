"""How a run kept its contest's rules: told by the rows, weights and decisions that it left."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from notebook_cells import run_cells
from PIL import Image

from fgvc_utils.answers.rules_kept import as_table, note_rules, require_kept, rules_kept
from fgvc_utils.answers.ways import LAYERS
from fgvc_utils.contest import contest_rules
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.contest.report import update_report
from fgvc_utils.contest.tables import new_table, write_table
from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.jobs.predictions import ShardWriter, finish_store
from fgvc_utils.jobs.records import Job, as_written

CLIP = "vit_base_patch32_clip_quickgelu_224.openai"
STRICT = {"preset": "aic2026", "distillation": False}
TRAIN, TEST = ["a/1", "a/2", "b/1", "b/2"], ["t1", "t2"]
CLASSES = ["a", "b"]


class Run:
    """A run that is made by hand, with the parameters of its 40."""

    def __init__(self, folder, rules):
        self.folder, self.contest = folder / "outputs" / "mine", folder / "mine.yaml"
        content = {"run": "mine", "outputs": str(folder / "outputs"), "rules": rules}
        self.contest.write_text(yaml.safe_dump(content | {"40_submit": {}}))
        rows = [(name, f"{name}.jpg", "train", name[0]) for name in TRAIN]
        rows += [(name, f"{name}.jpg", "test", "") for name in TEST]
        images = pd.DataFrame(rows, columns=["image_id", "path", "split", "given"])
        self.table = new_table(images.astype(object))
        self.cfg = SimpleNamespace(
            contest=str(self.contest),
            folder=self.folder,
            report=self.folder / "report.json",
            ensemble="vote",
            table="04_lowq",
            rule="plain",
            known_count=0,
            prior="",
            stamp=lambda step: self.folder / "stages" / f"{step}.json",
        )

    def job(self, place, fitted=TRAIN, **fields):
        """A job that is done in a folder of the run."""
        folder = self.folder / place
        folder.mkdir(parents=True, exist_ok=True)
        usual = {"fit": "full", "backbone": CLIP, "weights": "hub"}
        job = Job(name=place, folder=str(folder), rows="", classes=CLASSES, **usual | fields)
        write_json(as_written(job), folder / "job.json")
        ids = [*TRAIN, *TEST]
        frame = pd.DataFrame({"image_id": ids, "fit": [each in fitted for each in ids]})
        frame.to_parquet(folder / "rows.parquet")
        left = {"weights.safetensors": {"bytes": 1, "sha256": f"{place}-digest"}}
        write_json({"left": left}, folder / "done.json")
        return str(folder / "predictions")

    def vote(self, ways, refitted=(), single=None):
        """What 30 notes of who answers; `ways` is their members by kind, one way each."""
        made = [
            {"name": f"way {n}", "weights": dict.fromkeys(names, 1 / len(names)), "kind": kind}
            for n, (kind, names) in enumerate(ways)
        ]
        figures = {"ways": made, "refitted": list(refitted), "single": single or {}, "held_out": 9}
        update_report(self.cfg.report, "30_ensemble", figures)

    def kept(self):
        return {each.rule: each for each in rules_kept(self.cfg, self.table)}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run under strict rules, in which one model answers, and it is well."""
    monkeypatch.setattr(contest_rules, "CLOSED", {})
    run = Run(tmp_path, STRICT)
    run.job("models/one")
    run.vote([("mean", ["one"])], single={"one": 0.75, "two": 0.5})
    return run


def test_a_run_that_kept_its_rules_says_what_shows_it(run):
    kept = run.kept()
    assert list(kept) == contest_rules.RULES and all(each.kept for each in kept.values())
    assert kept["train_on_test"].evidence == "no test image in the 4 training rows of 1 fits"
    assert kept["ensembles"].evidence == (
        "one model answers: one; of 2 the best by 9 held-out images, top-1 75.0%"
    )
    assert kept["hand_cleaning"].evidence.startswith("no decision by people in any journal; 0 of 6")
    assert kept["pretraining"].evidence == f"{CLIP} (hub)"
    assert kept["final_models"].figures == {"weights": {"one": "models/one-digest"}}
    require_kept(kept.values())
    table = as_table(kept.values())
    assert set(table["kept"]) == {"yes"} and list(table) == ["allowed", "kept", "evidence"]


def test_the_report_says_it_of_the_file(run):
    file = run.folder / "submission.csv"
    file.write_text("t1,a\n")
    said = note_rules(run.cfg, list(run.kept().values()), file)
    assert said == "rules aic2026: 7 of 7 that bind were kept"
    noted = read_json(run.cfg.report)["rules"]
    assert noted["differs_from_preset"] == {"distillation": False} and noted["source"]
    assert noted["file"] == "submission.csv" and len(noted["sha256"]) == 64
    assert [each["rule"] for each in noted["rules"]] == contest_rules.RULES


def broken(run):
    return [name for name, each in run.kept().items() if each.kept is False]


def test_a_test_image_in_the_rows_of_a_start_a_teacher_or_a_refit_is_found(run):
    run.job("models/start", fitted=[*TRAIN, "t1"])
    run.job("models/one", start_weights=str(run.folder / "models/start/weights.safetensors"))
    assert broken(run) == ["train_on_test"]
    said = run.kept()["train_on_test"].evidence
    assert said == "1 of the 2 test images in the 9 training rows of 2 fits: models/start"
    teacher = run.job("models/start", fitted=TEST)
    run.job("models/one", teachers=[teacher])
    assert broken(run) == ["train_on_test", "distillation"]
    assert run.kept()["distillation"].evidence == "one learned from start"
    run.job("models/one")
    run.job("models/one/refit", fitted=[*TRAIN, *TEST])
    assert broken(run) == ["train_on_test"]
    # One that was put away answers for nothing.
    (run.folder / "models/one/refit/done.json").rename(run.folder / "models/one/refit/before.json")
    assert broken(run) == []


def test_fits_of_the_cleaning_count_too_and_models_that_do_not_answer_do_not(run):
    run.job("models/other", fitted=TEST)
    assert broken(run) == []
    run.job("work/02_coarse/round-1/fold-0", fitted=["t2"], fit="head")
    assert broken(run) == ["train_on_test"]


def test_several_models_are_several_sets_of_weights(run):
    run.job("models/two")
    run.vote([("mean", ["one", "two"]), ("mean", ["one"])])
    assert broken(run) == ["ensembles", "final_models"]
    said = run.kept()["ensembles"].evidence
    assert said == "2 models in 2 voting ways: one, two"
    with pytest.raises(ValueError, match="no file is written:\n  ensembles: 2 models in 2 voting"):
        require_kept(run.kept().values())


def test_a_member_without_a_weight_does_not_answer(run):
    way = {"name": "mean of 2", "weights": {"one": 1.0, "two": 0.0}, "kind": "mean"}
    update_report(run.cfg.report, "30_ensemble", {"ways": [way], "refitted": [], "single": {}})
    assert broken(run) == []


def test_a_layer_and_a_probe_hold_the_networks_whose_features_they_read(run):
    stores = [run.job("models/one"), run.job("models/two")]
    (key, *_) = LAYERS
    run.job(f"work/30_ensemble/{key}", fit="head", backbone="", stores=stores)
    run.vote([(key, ["layer"])])
    assert set(run.kept()["final_models"].figures["weights"]) == {"one", "two"}
    assert broken(run) == ["ensembles", "final_models"]
    features = [run.job(f"features/{size}", fit="none", size=size, fitted=[]) for size in (64, 96)]
    run.job("models/probe", fit="head", backbone=f"{CLIP} + {CLIP}", stores=features)
    run.vote([("mean", ["probe"])])
    assert broken(run) == ["ensembles", "final_models"]
    run.job("models/probe", fit="head", backbone=CLIP, stores=features[:1])
    assert broken(run) == []
    assert run.kept()["pretraining"].evidence == f"{CLIP} (hub)"


def test_averaged_weights_are_one_set_and_go_back_to_their_models(run):
    run.job("models/two", fitted=TEST)
    average = run.folder / "soups/soup-1/average"
    run.job("soups/soup-1", trained=str(average / "weights.safetensors"))
    members = [str(run.folder / f"models/{name}/weights.safetensors") for name in ("one", "two")]
    write_json({"members": members}, average / "done.json")
    run.vote([("mean", ["soup-1"])])
    assert broken(run) == ["train_on_test"]
    assert len(run.kept()["final_models"].figures["weights"]) == 1


def test_a_refit_answers_with_its_own_weights(run):
    run.job("models/one/refit")
    run.vote([("mean", ["one"])], refitted=["one", "other"])
    assert run.kept()["final_models"].figures["weights"] == {"one": "models/one/refit-digest"}
    assert "one, refitted on all images" in run.kept()["ensembles"].evidence


def test_decisions_rules_and_weights_that_were_not_allowed_are_found(run, tmp_path):
    run.cfg.rule, run.cfg.known_count = "cap", 2
    weights = tmp_path / "mine.safetensors"
    weights.write_bytes(b"1")
    parameters = {"backbone": CLIP, "weights": str(weights)}
    write_json({"parameters": parameters}, run.cfg.stamp("01_noise"))
    Journal(run.folder / "decisions/01_noise.csv").append("a/1", "noise")
    run.table.loc[run.table["image_id"] == "a/1", "by"] = "human"
    assert broken(run) == ["fit_to_test", "hand_cleaning"]
    kept = run.kept()
    assert kept["fit_to_test"].evidence.endswith("; by known_count 2")
    assert kept["hand_cleaning"].evidence == (
        "decisions by people: 1 in 01_noise.csv; 1 of 6 rows of 04_lowq decided by people"
    )
    assert f"{CLIP} (file mine.safetensors, sha256 6b86b273ff34)" in kept["pretraining"].evidence


def test_what_nobody_noted_is_not_called_kept(run):
    run.cfg.ensemble = "other"
    kept = run.kept()
    unknown = [name for name, each in kept.items() if each.kept is None]
    assert unknown == ["train_on_test", "ensembles", "distillation", "pretraining", "final_models"]
    assert as_table(kept.values())["kept"].tolist().count("?") == 5
    require_kept(kept.values())
    file = run.folder / "submission.csv"
    file.write_text("t1,a\n")
    assert "2 of 7 that bind were kept, not known of train_on_test" in note_rules(
        run.cfg, list(kept.values()), file
    )


def test_without_rules_nothing_is_looked_at_or_noted(tmp_path):
    run = Run(tmp_path, None)
    assert rules_kept(run.cfg, run.table) == []
    assert note_rules(run.cfg, [], tmp_path) == "the contest file names no rules"
    assert not run.cfg.report.exists()


def test_where_all_is_allowed_the_same_findings_break_nothing(run, tmp_path):
    free = Run(tmp_path, {"ensembles": True})
    free.job("models/two", fitted=TEST)
    free.vote([("mean", ["one", "two"])])
    Journal(free.folder / "decisions/01_noise.csv").append("a/1", "noise")
    assert broken(free) == []
    assert "2 of the 2 test images" in free.kept()["train_on_test"].evidence


@pytest.mark.parametrize("well", [True, False])
def test_40_writes_no_file_that_breaks_a_rule(run, tmp_path, monkeypatch, well):
    monkeypatch.setenv("FGVC_DATA", str(tmp_path))
    write_table(run.table, run.folder / "tables/04_lowq.parquet")
    inventory = pd.DataFrame({"image_id": run.table["image_id"], "cached": "a.jpg"})
    inventory.to_parquet(run.folder / "tables/inventory.parquet")
    (tmp_path / "outputs/cache").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "outputs/cache/a.jpg")
    (tmp_path / "mine").mkdir()
    writer = ShardWriter(run.folder / "ensemble/vote", 0, TEST)
    writer.write("scores", 0, np.eye(2, dtype=np.float32))
    writer.close()
    finish_store(run.folder / "ensemble/vote", CLASSES, 1)
    run.job("models/one", fitted=TRAIN if well else TEST)
    own = {"contest": str(run.contest), "run": "mine", "data_root": "mine", "resamples": 0}
    notebook = PROJECT / "notebooks/40_submit.ipynb"
    if well:
        printed, _ = run_cells(notebook, own)
        assert "rules aic2026: 7 of 7 that bind were kept" in printed
        assert (run.folder / "submission.csv").is_file()
    else:
        with pytest.raises(ValueError, match="train_on_test: 2 of the 2 test images"):
            run_cells(notebook, own)
        assert not list(run.folder.glob("submission*"))
