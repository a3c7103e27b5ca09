"""The contest's own rules: how they are named, what they set, and what they refuse by name."""

import re
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from PIL import Image

from fgvc_utils.answers.params import EnsembleParams, SubmitParams
from fgvc_utils.cleaning.params import CrossParams
from fgvc_utils.contest import contest_rules
from fgvc_utils.contest.contest_file import notebook_defaults, read_contest_file
from fgvc_utils.contest.contest_rules import ContestRules, matches, preset_rules, rule_names
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.looking.review import Review
from fgvc_utils.pipeline.contest_file import Step, injected, read_contest
from fgvc_utils.pipeline.stamps import inputs_of
from fgvc_utils.training.params import DistillParams, TrainParams

NONE = {
    name: value
    for name, value in ContestRules().model_dump().items()
    if name not in ("preset", "source")
}


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    """Let the parameters believe that these cells ran in this kernel; none at first."""
    monkeypatch.setattr(contest_rules, "CLOSED", {})

    def ran(*cells):
        shell = SimpleNamespace(user_ns={"In": ["", *cells]})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    ran()
    return ran


@pytest.fixture
def contest(tmp_path):
    """Write a contest file with a block of rules; returns how a notebook names it."""

    def write(rules, **sections):
        values = {"run": "mine", "outputs": str(tmp_path / "outputs"), "rules": rules} | sections
        if rules is None:
            del values["rules"]
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
        return str(tmp_path / "mine.yaml")

    return write


def rules_in(file):
    return contest_rules.rules_of(read_contest_file(file))


def read(record, stage, contest, **changes):
    """A stage's parameters as its notebook reads them."""
    return record.read(notebook_defaults(stage) | {"contest": contest} | changes, stage)


def test_a_contest_without_rules_allows_everything_and_changes_nothing(contest, capsys):
    stages = {"10_train": {}, "20_distill": {}, "30_ensemble": {}, "40_submit": {"known_count": 2}}
    free = contest(None, **stages)
    steps = read_contest(free)
    assert rules_in(free) == ContestRules() and contest_rules.rules_digest(free) == ""
    assert steps[2].cfg.mean_sizes == notebook_defaults("30_ensemble")["mean_sizes"]
    assert read(EnsembleParams, "30_ensemble", free) == steps[2].cfg
    assert "\nrules" not in capsys.readouterr().out
    empty = contest({}, **stages)
    assert [step.cfg for step in read_contest(empty)] == [step.cfg for step in steps]


@pytest.mark.parametrize("name", ["aic2025", "aic2026", "accv2022", "kaggle"])
def test_each_preset_that_ships_says_all_rules_and_its_source(name):
    assert rule_names() == ["accv2022", "aic2025", "aic2026", "kaggle"]
    values = preset_rules(name)
    assert set(values) == set(NONE) | {"source"} and re.search("2022|2025|2026", values["source"])


def test_the_rules_of_aic_2026_are_those_of_the_contest():
    rules = ContestRules(preset="aic2026", **preset_rules("aic2026"))
    assert not (rules.train_on_test or rules.ensembles or rules.hand_cleaning)
    assert rules.final_models == 1 and rules.most_models == 1
    weights = "vit_base_patch32_clip_quickgelu_224"
    assert matches(rules.pretraining, [f"{weights}.openai"])
    assert not matches(rules.pretraining, [f"{weights}.laion400m_e32"])


def test_a_preset_by_name_and_one_from_which_some_values_differ(contest):
    assert rules_in(contest("aic2026")) == rules_in(contest({"preset": "aic2026"}))
    other = rules_in(contest({"preset": "aic2026", "ensembles": True, "final_models": 3}))
    assert (other.ensembles, other.most_models, other.hand_cleaning) == (True, 3, False)
    assert other.differences() == {"ensembles": True, "final_models": 3}
    assert rules_in(contest({"pretraining": "resnet50"})).pretraining == ["resnet50"]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("aic2027", "preset 'aic2027' is not there; there are accv2022, aic2025, .*near it is"),
        ({"preset": "AIC2026"}, "preset 'AIC2026' is not there; .*near it is 'aic2026'"),
        ({"ensemble": False}, "mine.yaml, rules: 'ensemble' is no rule; .*near it is 'ensembles'"),
        ({"ensembles": "perhaps"}, "mine.yaml, rules: .*ensembles = 'perhaps'"),
        ({"final_models": -1}, "mine.yaml, rules: .*final_models = -1"),
        (["aic2026"], "is neither the name of a preset"),
        (False, "False is neither the name of a preset .*leave it out"),
        ({"preset": 2026}, "preset 2026 is not there"),
    ],
)
def test_what_is_wrong_with_the_rules_is_said_with_the_file(contest, rules, said):
    file = contest(rules, **{"30_ensemble": {}})
    with pytest.raises(ParameterError) as error:
        read_contest(file)
    assert re.search(said, " ".join(str(error.value).split())), error.value
    with pytest.raises(ParameterError):
        read(EnsembleParams, "30_ensemble", file)


def test_a_misspelt_block_of_rules_is_no_silent_freedom(contest):
    with pytest.raises(ParameterError, match="'ruels' is neither .*near it is 'rules'"):
        read_contest(contest(None, ruels="aic2026", **{"30_ensemble": {}}))


def test_rules_take_the_place_of_the_defaults_and_the_file_beats_them(contest, capsys):
    stages = {"20_distill": {}, "30_ensemble": {}, "40_submit": {}}
    student, vote, answer = (step.cfg for step in read_contest(contest("aic2026", **stages)))
    assert student.variant == "B" and student.feature_views == 0
    assert vote.mean_sizes == [1] and (vote.augmented_models, vote.plain_models) == (0, 0)
    assert answer.rule == "plain"
    file = contest({"final_models": 3}, **{"30_ensemble": {"mean_sizes": [2]}, "20_distill": {}})
    cfg = read(EnsembleParams, "30_ensemble", file)
    assert cfg.mean_sizes == [2] and cfg.plain_models == 0
    said = capsys.readouterr().out
    assert "rules: final_models 3; they set: augmented_models 0, plain_models 0\n" in said
    assert read(DistillParams, "20_distill", file).variant == "A"


def test_the_notebook_reads_what_the_pipeline_checked_under_rules_too(contest, kernel):
    stages = {"20_distill": {"epochs": 2}, "30_ensemble": {}, "40_submit": {}}
    file = contest({"preset": "aic2026", "pretraining": []}, **stages)
    records = {
        "20_distill": DistillParams,
        "30_ensemble": EnsembleParams,
        "40_submit": SubmitParams,
    }
    for step in read_contest(file):
        values = injected(Step(step.stage, step.name, step.cfg))
        kernel("# Parameters\n" + "\n".join(f"{name} = {v!r}" for name, v in values.items()))
        usual = notebook_defaults(step.stage)
        assert records[step.stage].read(usual | values, step.stage) == step.cfg


BREACHES = [
    (DistillParams, "20_distill", {"variant": "A"}, {"train_on_test": False}, "set variant: B"),
    (DistillParams, "20_distill", {}, {"distillation": False}, "leave 20_distill out"),
    (
        EnsembleParams,
        "30_ensemble",
        {"mean_sizes": [2, 1]},
        {"ensembles": False},
        "mean_sizes: [1]",
    ),
    (EnsembleParams, "30_ensemble", {"plain_models": 1}, {"ensembles": False}, "plain_models: 0"),
    (EnsembleParams, "30_ensemble", {"mean_sizes": [5]}, {"final_models": 4}, "mean_sizes: [4]"),
    (EnsembleParams, "30_ensemble", {"augmented_models": 2}, {"final_models": 1}, "_models: 0"),
    (EnsembleParams, "30_ensemble", {"seen_models": ["x"]}, {"final_models": 1}, "seen_models: []"),
    (SubmitParams, "40_submit", {"rule": "cap"}, {"fit_to_test": False}, "set rule: plain"),
    (CrossParams, "03_fine", {"require_review": True}, {"hand_cleaning": False}, "review: false"),
]


@pytest.mark.parametrize(("record", "stage", "changes", "rules", "advice"), BREACHES)
def test_a_parameter_that_breaks_a_rule_is_refused_by_name(
    contest, record, stage, changes, rules, advice
):
    (step,) = read_contest(contest(rules, **{stage: changes}))
    (breach,) = step.cfg.breaches(ContestRules(**rules))
    line = breach.text(ContestRules(**rules), step.name)
    (rule,) = rules
    assert line.startswith(f"{stage}: rules, {rule} ") and advice in line and "\n" not in line
    with pytest.raises(ParameterError, match=re.escape(line)):
        read(record, stage, step.cfg.contest)
    assert step.cfg.breaches(ContestRules()) == []


ALLOWED = [
    (EnsembleParams, "30_ensemble", {"mean_sizes": [15, 9], "models": ["a"]}, {"ensembles": False}),
    (EnsembleParams, "30_ensemble", {"convolution_models": 2}, {"ensembles": False}),
    (EnsembleParams, "30_ensemble", {"soup": "uniform"}, {"final_models": 1}),
    (EnsembleParams, "30_ensemble", {"plain_models": 1}, {"final_models": 1}),
    (SubmitParams, "40_submit", {"known_count": 3}, {"fit_to_test": False}),
    (TrainParams, "10_train", {"refit": True}, {"train_on_test": False}),
]


@pytest.mark.parametrize(("record", "stage", "changes", "rules"), ALLOWED)
def test_what_breaks_no_rule_is_let_pass(contest, record, stage, changes, rules):
    # One model alone, a layer without a vote, averaged weights, a layer on one network's features.
    file = contest(rules, **{stage: changes})
    assert read(record, stage, file).breaches(ContestRules(**rules)) == []


def test_a_value_set_in_the_cell_is_refused_as_one_of_the_file_is(contest, kernel):
    file = contest({"ensembles": False}, **{"30_ensemble": {}})
    kernel("# Parameters\nmean_sizes = [3]\n")
    with pytest.raises(ParameterError, match="30_ensemble: rules, ensembles false: mean_sizes"):
        read(EnsembleParams, "30_ensemble", file, mean_sizes=[3])


def test_decisions_by_people_stop_a_notebook_and_an_undone_one_does_not(contest, tmp_path):
    file = contest("aic2026", **{"40_submit": {}})
    journal = Journal(tmp_path / "outputs/mine/decisions/03_fine.csv")
    journal.append("1.jpg", "keep", reviewer="me")
    said = "hand_cleaning false: .*03_fine.csv holds 1 decision by people; keep the file elsewhere"
    with pytest.raises(ParameterError, match=said):
        read(SubmitParams, "40_submit", file)
    journal.append("1.jpg", "undo", reviewer="me")
    read(SubmitParams, "40_submit", file)


def test_a_gallery_decides_nothing_where_people_may_not(contest, tmp_path):
    picture = tmp_path / "1.jpg"
    Image.new("RGB", (8, 8)).save(picture)
    candidates = pd.DataFrame({"item": ["1.jpg"], "image": [str(picture)], "caption": [""]})
    journal = Journal(tmp_path / "outputs/mine/decisions/03_fine.csv")
    review = Review(candidates, journal, ["keep"], reviewer="me")
    cfg = read(CrossParams, "03_fine", contest("aic2026", **{"03_fine": {}}))
    assert cfg.journal("03_fine") == journal.path
    with pytest.raises(ValueError, match="rules aic2026, hand_cleaning false: .*no decision"):
        review.decide([0], "keep")
    assert not journal.path.exists() and review.decided == 0
    read(CrossParams, "03_fine", contest("kaggle", **{"03_fine": {}}))
    assert review.decide([0], "keep") == [0] and journal.path.exists()


def test_patterns_allow_and_leave_out():
    assert matches(["*.in1k", "!*jft*"], ["resnet50.in1k"])
    assert not matches(["*_in1k", "!*jft*"], ["tf_efficientnet_b4.ns_jft_in1k"])
    assert matches(["!*jft*"], ["anything"]) and not matches(["resnet50"], ["resnet50.a1_in1k"])


def test_40_runs_again_where_the_rules_are_others_and_nothing_else_does(contest):
    stages = {"30_ensemble": {}, "40_submit": {"rule": "plain"}}
    free = [inputs_of(step) for step in read_contest(contest(None, **stages))]
    bound = [inputs_of(step) for step in read_contest(contest({"ensembles": True}, **stages))]
    other = [inputs_of(step) for step in read_contest(contest({"ensembles": False}, **stages))]
    assert free[0] == bound[0] == other[0]
    assert "rules" not in free[1] and bound[1]["rules"] != other[1]["rules"]


def test_the_contests_that_ship_keep_the_rules_that_they_name():
    named = {}
    for path in sorted((PROJECT / "params").glob("*.yaml")):
        rules = rules_in(path)
        steps = read_contest(path)
        assert [each for step in steps for each in step.cfg.breaches(rules)] == [], path
        named[path.stem] = rules.preset
    assert named["aic2026-clip"] == "aic2026" and named["dinov3"] == "kaggle"
    assert named["demo"] == "" and named["webfg5000"] == "accv2022"
