"""Presets: what they set, what goes before them, and what the kit says of those that are wrong."""

import re
import sys
from types import SimpleNamespace

import pytest
import yaml

from fgvc_utils.contest import presets
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.jobs.records import Recipe
from fgvc_utils.pipeline.contest_file import Step, injected, read_contest
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.pipeline.stamps import changed_parameters
from fgvc_utils.training.changes import parameter_types
from fgvc_utils.training.params import TrainParams

# Parts of a recipe that go with the size of the data or with the machine.
OF_DATA = {"epochs", "global_batch", "start"}
OF_MACHINE = {"micro_batch", "precision", "gradient_checkpointing", "compile", "changes_on"}
PICTURES = {"random_crop", "crop_smallest", "crop_stretch", "train_ratio", "test_ratio"}
PICTURES |= {"mix", "mix_probability", "mix_alpha", "mixup_alpha", "label_smoothing"}
SHIPPED = ["light", "original", "strong"]


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    """Let the parameters believe that these cells ran in this kernel; none at first."""

    def ran(*cells):
        shell = SimpleNamespace(user_ns={"In": ["", *cells]})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    ran()
    return ran


@pytest.fixture
def preset(tmp_path, monkeypatch):
    """Write a preset of this name; no other is there."""
    monkeypatch.setattr(presets, "PRESETS", tmp_path / "presets")
    monkeypatch.setattr(presets, "SHIPPED_PRESETS", tmp_path / "none")
    (tmp_path / "presets").mkdir()

    def write(name, values):
        text = values if isinstance(values, str) else yaml.safe_dump(values)
        (tmp_path / "presets" / f"{name}.yaml").write_text(text)

    return write


@pytest.fixture
def contest(tmp_path):
    """Write a contest file, as a notebook names it."""

    def write(values):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"run": "mine"} | values))
        return str(tmp_path / "mine.yaml")

    return write


def read(contest="", **changes):
    """10's parameters as its notebook reads them."""
    return TrainParams.read(
        notebook_defaults("10_train") | {"contest": contest} | changes, "10_train"
    )


def test_the_cell_beats_the_file_that_beats_the_preset_that_beats_the_default(
    preset, contest, capsys
):
    preset("mine", {"epochs": 3, "base_lr": 0.5, "dropout": 0.3, "table": "03_fine"})
    file = contest({"10_train": {"preset": "mine", "base_lr": 0.4, "dropout": 0.2}})
    cfg = read(file, dropout=0.1)
    assert (cfg.dropout, cfg.base_lr, cfg.epochs, cfg.table) == (0.1, 0.4, 3, "03_fine")
    assert cfg.momentum == notebook_defaults("10_train")["momentum"] and cfg.preset == "mine"
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("run 'mine', base_lr 0.4, preset 'mine'")
    assert said[1].startswith("set by preset 'mine' (") and said[1].endswith(
        "/mine.yaml): epochs 3, table '03_fine'"
    )
    assert "set here, not as in the file: dropout 0.1 (there 0.2)" in said[2]


def test_values_that_are_shared_beat_the_preset_and_every_section_may_have_its_own(preset, contest):
    preset("one", {"epochs": 3, "size": 64})
    preset("two", {"epochs": 4})
    sections = [{"name": "a"}, {"name": "b", "preset": "two"}, {"name": "c", "preset": ""}]
    file = contest({"preset": "one", "size": 96, "10_train": sections, "20_distill": {}})
    steps = {step.name: step.cfg for step in read_contest(file)}
    usual = notebook_defaults("10_train")["epochs"]
    assert [steps[f"10_train-{name}"].epochs for name in "abc"] == [3, 4, usual]
    assert steps["20_distill"].epochs == 3
    assert {cfg.size for cfg in steps.values()} == {96}


def test_a_preset_can_be_taken_in_the_cell_and_without_a_contest_file(preset, contest, kernel):
    preset("one", {"epochs": 3})
    preset("two", {"epochs": 4})
    file = contest({"10_train": {"preset": "one"}})
    assert read(preset="two").epochs == read(file, preset="two").epochs == 4
    kernel("# Parameters\npreset = ''\n")
    assert read(file, preset="").epochs == notebook_defaults("10_train")["epochs"]


def test_a_stage_takes_of_a_preset_what_it_has(preset, contest):
    preset("both", {"temperature": 2.0, "rate_sweep_steps": 30, "epochs": 3})
    steps = read_contest(contest({"preset": "both", "10_train": {}, "20_distill": {}}))
    ten, twenty = (step.cfg for step in steps)
    assert (ten.rate_sweep_steps, twenty.temperature, twenty.epochs) == (30, 2.0, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochz: 3", "mine.yaml: 'epochz' is no parameter of a stage .*near it is 'epochs'"),
        ("name: b0", "mine.yaml: 'name' is no part of a recipe; set it in the contest file"),
        ("processes: 2", "mine.yaml: 'processes' is no parameter"),
        ("- epochs", "mine.yaml holds no names with values"),
        ("epochs: 3\nepochs: 4", "mine.yaml, line 2: 'epochs' appears twice"),
        ("epochs: -1", "10_train: with preset 'mine' .*mine.yaml.*epochs = -1"),
    ],
)
def test_what_is_wrong_with_a_preset_names_its_file(preset, contest, text, said):
    preset("mine", text)
    file = contest({"10_train": {"preset": "mine"}})
    with pytest.raises(ParameterError) as error:
        read_contest(file)
    assert re.search(said, " ".join(str(error.value).split())), error.value
    with pytest.raises(ParameterError):
        read(preset="mine")


@pytest.mark.parametrize("name", ["strnog", "../presets/strong", "strong.yaml", 3, ["strong"]])
def test_a_preset_that_is_not_there_is_refused_with_those_that_are(contest, name):
    said = "there are light, original, strong" if isinstance(name, str) else "valid string"
    with pytest.raises(ParameterError, match=said) as error:
        read_contest(contest({"10_train": {"preset": name}}))
    assert "mine.yaml, section 10_train" in str(error.value)
    with pytest.raises(ParameterError, match=said):
        read(preset=name)


def test_the_notebook_reads_what_the_pipeline_checked_whatever_the_preset(preset, contest, kernel):
    preset("one", {"epochs": 3, "dropout": 0.3, "base_lr": 0.5})
    preset("two", {"epochs": 4, "momentum": 0.5})
    usual = notebook_defaults("10_train")
    file = contest({"10_train": {"preset": "one", "dropout": usual["dropout"]}})
    (step,) = read_contest(file)
    assert (step.cfg.epochs, step.cfg.dropout) == (3, usual["dropout"])
    variants = ({}, {"epochs": usual["epochs"]}, {"preset": "two"}, {"preset": ""}, {"contest": ""})
    for changes in (*variants, {"contest": "", "preset": "two"}):
        other = Step(step.stage, step.name, step.cfg.model_copy(update=changes))
        values = injected(other)
        kernel("# Parameters\n" + "\n".join(f"{name} = {v!r}" for name, v in values.items()))
        assert TrainParams.read(usual | values, "10_train") == other.cfg, changes


def test_the_same_values_from_a_preset_make_nothing_stale(preset, contest):
    preset("mine", {"epochs": 3})
    (by_hand,) = read_contest(contest({"10_train": {"epochs": 3}}))
    (step,) = read_contest(contest({"10_train": {"preset": "mine"}}))
    assert changed_parameters(step, by_hand.cfg.model_dump(mode="json")) == []
    preset("mine", {"epochs": 4})
    (step,) = read_contest(contest({"10_train": {"preset": "mine"}}))
    assert changed_parameters(step, by_hand.cfg.model_dump(mode="json")) == ["epochs"]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("stage", ["10_train", "20_distill"])
def test_each_preset_that_ships_is_right_and_covers_the_pictures(name, stage):
    assert presets.preset_names() == SHIPPED
    record, usual = STAGES[stage].parameters, notebook_defaults(stage)
    values = presets.preset_values(name, record.model_fields)
    assert record(**(usual | values)).mix == values["mix"]
    assert PICTURES | set(parameter_types()) <= set(values)


def test_the_original_covers_the_whole_recipe():
    values = presets.preset_values("original", TrainParams.model_fields)
    whole = set(Recipe.model_fields) | set(parameter_types())
    lacking = whole - OF_DATA - OF_MACHINE - set(values)
    assert not lacking, f"params/presets/original.yaml lacks {sorted(lacking)}"
    assert not (OF_DATA | OF_MACHINE) & set(values)
    assert (values["base_lr"], values["label_smoothing"], values["mix"]) == (0.03, 0.2, "cutmix")
    assert (values["train_ratio"], values["test_ratio"]) == (1.15, 1.35)


def test_the_original_contest_takes_the_original_recipe():
    steps = read_contest(PROJECT / "params/webfg5000.yaml")
    assert {s.cfg.preset for s in steps if s.stage in ("10_train", "20_distill")} == {"original"}


def test_a_preset_of_the_project_goes_before_one_that_came_with_the_kit(tmp_path, monkeypatch):
    for home in ("mine", "kit"):
        (tmp_path / home / "rules").mkdir(parents=True)
        (tmp_path / home / "both.yaml").write_text("label_smoothing: 0.1\n")
        (tmp_path / home / f"{home}.yaml").write_text("label_smoothing: 0.2\n")
        (tmp_path / home / "rules" / f"{home}.yaml").write_text("")
    monkeypatch.setattr(presets, "PRESETS", tmp_path / "mine")
    monkeypatch.setattr(presets, "SHIPPED_PRESETS", tmp_path / "kit")
    assert presets.preset_names() == ["both", "kit", "mine"]
    files = presets.preset_files()
    assert files["both"].parent.name == "mine" and files["kit"].parent.name == "kit"
    assert set(presets.preset_files("rules")) == {"kit", "mine"}
