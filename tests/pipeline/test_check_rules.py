"""The check refuses each step that would break a rule of the contest, a line each."""

import pandas as pd
import pytest
import yaml
from PIL import Image

from fgvc_utils.contest.journal import Journal
from fgvc_utils.core.files import write_json
from fgvc_utils.jobs.records import Job, as_written
from fgvc_utils.pipeline.checking import check
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.training import pretrained
from fgvc_utils.training.pretrained import forbidden, forbidden_elsewhere, strangers

CLIP = "vit_base_patch32_clip_quickgelu_224.openai"
NETWORK = {"backbone": CLIP, "weights": "none", "size": 64}
BATCH = {"global_batch": 4, "micro_batch": 4}
ONE = {**NETWORK, **BATCH, "name": "one"}
CROSSED = {"folds": 2, "further_backbones": []}
CONTEST = {
    "run": "mine",
    "data_root": "mine",
    "backbone": CLIP,
    "weights": "none",
    "size": 64,
    "rules": "aic2026",
    "01_noise": {"folds": 2, "cache_side": 96},
    "02_coarse": CROSSED,
    "03_fine": CROSSED,
    "04_lowq": {},
    "10_train": [ONE],
    "30_ensemble": BATCH,
    "40_submit": {},
}


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Check the contest with some sections changed; a section of None is left out."""
    monkeypatch.setenv("FGVC_DATA", str(tmp_path / "data"))
    for place in ("train/ant", "train/bee", "test"):
        (tmp_path / "data/mine" / place).mkdir(parents=True)
        for number in range(6):
            shade = Image.new("RGB", (64, 48), (40 * number, len(place), 7))
            shade.save(tmp_path / "data/mine" / place / f"{number}.jpg")

    def of(**sections):
        contest = CONTEST | {"outputs": str(tmp_path / "outputs")}
        contest |= {name.removeprefix("s"): each for name, each in sections.items()}
        contest = {name: each for name, each in contest.items() if each is not None}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(contest))
        return check(read_contest(tmp_path / "mine.yaml"), sample_seconds=0)

    return of


def about_rules(result):
    return [text for text in result.errors if "rules" in text]


def test_a_contest_under_aic2026_is_well_and_says_its_rules(found):
    result = found()
    assert result.errors == []
    (said,) = [fact for fact in result.facts if fact.startswith("rules aic2026: ")]
    assert "train_on_test False" in said and "final_models 1" in said
    assert any("rules aic2026 are from AIC 2026" in fact for fact in result.facts)


def test_a_teacher_on_test_images_an_ensemble_and_a_hand_pick_are_three_lines(found, tmp_path):
    Journal(tmp_path / "outputs/mine/decisions/03_fine.csv").append("train/ant/1.jpg", "keep")
    student = {**ONE, "name": "student", "variant": "A"}
    vote = BATCH | {"mean_sizes": [15, 9], "plain_models": 4}
    errors = found(s20_distill=student, s30_ensemble=vote).errors
    assert len(errors) == 3 and not any("\n" in text for text in errors), errors
    teacher, ensemble, pick = errors
    assert teacher.startswith("20_distill: rules aic2026, train_on_test false: variant A of model")
    assert teacher.endswith("; set variant: B")
    assert ensemble == (
        "30_ensemble: rules aic2026, ensembles false: mean_sizes [15, 9], plain_models 4 let more "
        "than 1 model answer; set mean_sizes: [1], plain_models: 0"
    )
    assert pick.startswith("03_fine: rules aic2026, hand_cleaning false: ")
    assert "decisions/03_fine.csv holds 1 decision by people; keep the file elsewhere" in pick


def test_the_same_steps_are_let_pass_where_the_rules_allow_them(found, tmp_path):
    Journal(tmp_path / "outputs/mine/decisions/03_fine.csv").append("train/ant/1.jpg", "keep")
    student = {**ONE, "name": "student", "variant": "A"}
    vote = BATCH | {"mean_sizes": [15, 9], "plain_models": 4}
    for rules in ({"hand_cleaning": True}, "accv2022", None):
        stages = {"s20_distill": student, "s30_ensemble": vote}
        allowed = 1 if rules == "accv2022" else 0
        assert len(found(rules=rules, **stages).errors) == allowed, rules


def test_weights_that_are_not_allowed_are_named_with_their_stages(found):
    further = [{"backbone": "tf_efficientnet_lite0", "weights": "package", "size": 64}]
    first, second = about_rules(
        found(
            s02_coarse=CROSSED | {"further_backbones": further},
            s10_train=[ONE, {**ONE, "name": "two", **further[0]}],
            s30_ensemble=BATCH | {"models": ["one"]},
            s03_fine=CROSSED | {"weights": "package", "backbone": "tf_efficientnet_lite1"},
        )
    )[:2]
    assert first.startswith(
        "02_coarse, 10_train-two: rules aic2026, pretraining: backbone 'tf_efficientnet_lite0' "
        "(tf_efficientnet_lite0.in1k) is not among 'vit_base_patch32_clip_224.openai'"
    )
    assert first.endswith("; name another backbone, or set weights: none")
    assert second.startswith("03_fine: ") and "tf_efficientnet_lite1" in second
    aic2025 = {"preset": "aic2025", "hand_cleaning": True}
    vote = BATCH | {"models": ["one"]}
    two = {**ONE, "name": "two", **further[0]}
    assert found(rules=aic2025, s10_train=[ONE, two], s30_ensemble=vote).errors == []


def test_a_probe_on_several_networks_is_no_single_model(found):
    networks = [CLIP, {"backbone": "test_vit", "weights": "none", "size": 32}]
    probe = {**ONE, "name": "probe", "fit": "probe", "probe_backbones": networks}
    (line,) = about_rules(found(s10_train=[ONE, probe]))
    assert line.startswith("30_ensemble: rules aic2026, ensembles false: model 'probe' joins the")
    assert "features of 2 networks" in line and "set its probe_backbones to 1" in line
    assert (
        about_rules(found(s10_train=[ONE, probe], s30_ensemble=BATCH | {"models": ["one"]})) == []
    )


def test_without_held_out_images_nothing_chooses_the_one_model(found):
    both = [{**ONE, "held_out_fold": -1}, {**ONE, "name": "two", "held_out_fold": -1}]
    vote = BATCH | {"held_out_fold": -1}
    (line,) = about_rules(found(s10_train=both, s30_ensemble=vote))
    assert "held_out_fold -1 leaves no image by which to choose among 2 models" in line
    assert about_rules(found(s10_train=both, s30_ensemble=vote | {"models": ["two"]})) == []


def test_of_several_models_a_student_is_offered_where_it_is_allowed(found):
    both = [ONE, {**ONE, "name": "two"}]

    def offered(**changes):
        return [fact for fact in found(s10_train=both, **changes).facts if "see 20_distill" in fact]

    assert len(offered()) == 1
    assert offered(s20_distill={**ONE, "name": "student"}) == []
    assert offered(rules={"ensembles": False, "distillation": False}) == []


def test_a_student_is_refused_where_nothing_may_be_distilled(found):
    rules = {"preset": "aic2026", "distillation": False}
    (line,) = about_rules(found(rules=rules, s20_distill={**ONE, "name": "student"}))
    assert line.endswith(
        "distillation false: model student would learn from other models; leave 20_distill out"
    )


def test_a_model_of_an_earlier_run_keeps_the_rules_too(found, tmp_path):
    folder = tmp_path / "outputs/mine/models/old"
    folder.mkdir(parents=True)
    job = Job(
        name="old",
        folder=str(folder),
        rows="",
        classes=["ant", "bee"],
        fit="full",
        backbone="tf_efficientnet_lite0",
        weights="package",
    )
    write_json(as_written(job), folder / "job.json")
    write_json({}, folder / "done.json")
    rows = {"image_id": ["test/1.jpg", "train/ant/1.jpg"], "fit": [True, True]}
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
    weights, test = about_rules(found(s30_ensemble=BATCH | {"models": ["old"]}))
    assert weights.startswith("model 'old' of an earlier run: rules aic2026, pretraining: backbone")
    assert test.startswith("model 'old' of an earlier run: rules aic2026, train_on_test false: it ")
    assert "learned from 1 test images; name the models" in test
    assert about_rules(found(s30_ensemble=BATCH | {"models": ["one"]})) == []


def test_patterns_that_name_nothing_are_said(found):
    rules = {"pretraining": ["vit_bsae_*.openai", "!*jft*", "hf-hub:me/mine", "resnet50"]}
    warned = [text for text in found(rules=rules).warnings if "pretraining" in text]
    assert len(warned) == 1 and "'vit_bsae_*.openai' name no weights that timm knows" in warned[0]
    assert strangers(["resnet50", "*.in1k"]) == []


def test_weights_are_told_by_their_full_names():
    assert forbidden([], ["anything"]) == {}
    assert forbidden(["resnet50"], ["resnet50", "resnet50.a1_in1k", "hf-hub:timm/resnet50"]) == {}
    assert forbidden(["resnet50"], ["resnet50.tv_in1k"]) == {"resnet50.tv_in1k": "resnet50.tv_in1k"}
    bare = "vit_base_patch32_clip_quickgelu_224"
    assert forbidden([CLIP], [bare, CLIP]) == {bare: f"{bare}.laion400m_e32"}
    assert forbidden(["local-dir:*"], ["local-dir:/nets/a", "hf-hub:me/mine"]) == {
        "hf-hub:me/mine": "hf-hub:me/mine"
    }


@pytest.mark.slow
def test_a_kernel_asks_another_process_for_the_names():
    asked = ["tf_efficientnet_lite0", CLIP]
    wanted = {"tf_efficientnet_lite0": "tf_efficientnet_lite0.in1k"}
    assert forbidden_elsewhere([CLIP], asked) == wanted == forbidden([CLIP], asked)


def test_a_kernel_asks_nobody_where_the_name_says_it(monkeypatch):
    monkeypatch.setattr(pretrained, "subprocess", None)
    for allowed in ([], [CLIP], ["*.openai"]):
        assert forbidden_elsewhere(allowed, [CLIP, f"hf-hub:timm/{CLIP}"]) == {}
    with pytest.raises(AttributeError):
        forbidden_elsewhere([CLIP], ["tf_efficientnet_lite0"])
