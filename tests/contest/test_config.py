"""Parameters are checked before any work, and the message says what to do."""

import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from fgvc_utils.answers.params import EnsembleParams, SubmitParams
from fgvc_utils.cleaning.params import LowQualityParams
from fgvc_utils.contest.contest_file import notebook_defaults, read_yaml
from fgvc_utils.contest.parameters import ParameterError, accumulation
from fgvc_utils.contest.places import PROJECT, data_root
from fgvc_utils.training.params import DistillParams, TrainParams

SHARED = {"contest": "", "run": "demo", "outputs": "outputs", "data_root": "demo", "seed": 0}
SUBMIT = SHARED | {
    "table": "04_lowq",
    "rule": "cap",
    "known_count": 20,
    "slack": 1.25,
    "columns": ["path", "class"],
    "image_column": "path",
    "sample": "sample_submission.csv",
    "form": "auto",
    "names_file": "",
    "class_names": "text",
    "class_digits": 0,
    "first_class": 0,
    "header": True,
    "separator": ",",
    "top": 5,
    "top_separator": " ",
    "decimals": 6,
    "packing": "none",
    "inner_name": "",
    "allow_formulas": False,
    "ensemble": "vote",
    "prior": "",
    "regularisation": 1.0,
    "pull": 1.0,
    "repair": False,
    "resamples": 10,
}
ENSEMBLE = SHARED | {
    "models": [],
    "mean_sizes": [4, 2],
    "augmented_models": 8,
    "plain_models": 4,
    "convolution_models": 5,
    "vote_convolution": False,
    "epochs": 5,
    "rate": 0.01,
    "global_batch": 64,
    "micro_batch": 64,
    "weight_decay": 0.0,
    "label_smoothing": 0.1,
    "held_out_fold": 0,
    "table": "04_lowq",
    "test_views": "centre",
    "mean_weights": "equal",
    "seen_models": [],
    "soup": "none",
    "calibration": "none",
}
DISTILL = SHARED | {
    "backbone": "tf_efficientnet_lite0",
    "weights": "packaged",
    "size": 128,
    "name": "student",
    "preset": "",
    "table": "04_lowq",
    "fold_table": "04_lowq",
    "held_out_fold": 0,
    "decoded_gb": 0,
    "random_crop": True,
    "crop_smallest": 0.0,
    "crop_stretch": 1.333,
    "train_ratio": 1.15,
    "test_ratio": 1.35,
    "epochs": 3,
    "base_lr": 0.03,
    "radam_lr": 0.001,
    "radam_share": 0.15,
    "momentum": 0.9,
    "optimiser": "radam+sgd",
    "warm_up": 0.05,
    "head_lr_scale": 10.0,
    "layer_decay": 0.8,
    "clip_norm": 1.0,
    "freeze_statistics": False,
    "weight_decay": 1e-4,
    "decay_norms": False,
    "label_smoothing": 0.2,
    "loss": "gce",
    "gce_q": 0.5,
    "ema_decay": 0.99,
    "swa_epochs": 0,
    "tuned_share": 1.0,
    "start": "",
    "start_head": "random",
    "start_head_decays": [],
    "dropout": 0.2,
    "drop_path": 0.0,
    "global_batch": 64,
    "micro_batch": 32,
    "precision": "auto",
    "gradient_checkpointing": False,
    "lora_rank": 0,
    "lora_alpha": 16.0,
    "changes_on": "workers",
    "compile": False,
    "balance": "none",
    "keep_prior": False,
    "keep_empty": False,
    "classifier": "arcface",
    "arcface_centres": 2,
    "arcface_margin": 0.2,
    "arcface_scale": 20.0,
    "feature_views": 1,
    "refit": False,
    "mix": "cutmix",
    "mix_probability": 0.5,
    "mix_alpha": 1.0,
    "mixup_alpha": 0.2,
    "colour_jitter": 0.2,
    "rand_augment_strength": 7,
    "rand_augment_operations": 2,
    "augmix_probability": 0.1,
    "augmix_strength": 3,
    "flip_probability": 0.5,
    "quarter_turn_probability": 0.0,
    "quality_probability": 0.3,
    "quality_low": 0.4,
    "quality_high": 0.5,
    "jpeg_probability": 0.3,
    "jpeg_low": 30,
    "jpeg_high": 95,
    "paste_probability": 0.2,
    "paste_smallest": 0.4,
    "shuffle_probability": 0.2,
    "shuffle_most": 4,
    "erasing_probability": 0.3,
    "erasing_largest": 0.33,
    "teachers": [],
    "variant": "B",
    "temperature": 1.0,
    "teacher_views": 0,
    "fold_clean": False,
}


@pytest.fixture(autouse=True)
def outside_a_kernel(monkeypatch):
    monkeypatch.delenv("FGVC_DATA", raising=False)
    kernel(monkeypatch, [])


def kernel(monkeypatch, cells):
    """Let the parameters believe that these cells ran in this kernel."""
    shell = SimpleNamespace(user_ns={"In": ["", *cells]})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def submit(**changes):
    return SubmitParams(**(SUBMIT | changes))


def test_good_parameters_and_where_they_put_things():
    cfg = submit()
    folder = PROJECT / "outputs" / "demo"
    assert cfg.folder == folder and cfg.report == folder / "report.json"
    assert cfg.table == "04_lowq" and cfg.journal("01_noise") == folder / "decisions/01_noise.csv"


def test_an_absolute_outputs_folder_is_taken_as_it_is(tmp_path):
    assert submit(outputs=str(tmp_path)).folder == tmp_path / "demo"


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "/ab" * 1200], ids=len)
def test_a_path_that_no_folder_can_have_is_an_error_of_its_parameter(name):
    with pytest.raises(ParameterError, match=r"outputs = .*\n?.*no folder can be called so"):
        submit(outputs=name)
    submit(outputs="x" * 255)


def test_a_number_for_text_says_how_to_write_it():
    with pytest.raises(ParameterError) as error:
        submit(run=10)
    text = str(error.value)
    assert "SubmitParams: 1 parameter(s)" in text and "run = 10" in text
    assert "in YAML '10' in quotes, with papermill -r run 10" in text


def test_numbers_may_come_as_text_and_text_that_is_no_number_is_named():
    assert EnsembleParams(**(ENSEMBLE | {"rate": "1e-3"})).rate == 0.001
    assert EnsembleParams(**(ENSEMBLE | {"epochs": "7"})).epochs == 7
    with pytest.raises(ParameterError, match="rate = 'fast'"):
        EnsembleParams(**(ENSEMBLE | {"rate": "fast"}))


def test_an_unknown_name_and_a_missing_one_are_both_named():
    values = {key: value for key, value in SUBMIT.items() if key != "slack"}
    with pytest.raises(ParameterError) as error:
        SubmitParams(**values, slcak=1.5)
    text = str(error.value)
    assert "2 parameter(s)" in text
    assert "slcak = 1.5" in text
    assert "no such parameter: check the spelling; near it is 'slack'" in text
    assert "slack: " in text and "give it a value in the parameters cell" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("slack", 0.5),
        ("slack", float("nan")),
        ("known_count", -1),
        ("known_count", 2.5),
        ("processes", 0),
        ("rule", "best"),
        ("regularisation", 0),
        ("pull", 1.5),
        ("ensemble", "../vote"),
        ("resamples", -1),
        ("columns", ["path"]),
        ("columns", "path"),
        ("form", "rank"),
        ("separator", ""),
        ("separator", "ab"),
        ("top_separator", '"'),
        ("top", 0),
        ("packing", "rar"),
        ("inner_name", "../a.csv"),
        ("class_names", "colour"),
        ("class_digits", -1),
        ("first_class", 2),
        ("decimals", 0),
        ("device", "tpu"),
        ("run", "../elsewhere"),
        ("run", ""),
        ("table", "10_train"),
    ],
)
def test_values_out_of_range_are_named(name, value):
    with pytest.raises(ParameterError, match=f"  {name} = "):
        submit(**{name: value})


@pytest.mark.parametrize("value", [float("inf"), 0, -1, "nan"])
def test_a_rate_is_a_positive_number(value):
    with pytest.raises(ParameterError, match="  rate = "):
        EnsembleParams(**(ENSEMBLE | {"rate": value}))


def test_parameters_that_do_not_go_together():
    assert DistillParams(**DISTILL).variant == "B"
    for changes, message in (
        ({"quality_low": 0.6}, "quality_low is above quality_high"),
        ({"jpeg_low": 96}, "jpeg_low is above jpeg_high"),
        ({"variant": "A", "balance": "prior"}, "set balance to 'none'"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"precision": "float16"}, "precision"),
    ):
        with pytest.raises(ParameterError, match=message):
            DistillParams(**(DISTILL | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean_weights": "fitted", "held_out_fold": -1}, "give a held_out_fold"),
        ({"soup": "greedy", "held_out_fold": -1}, "a greedy soup"),
        ({"models": ["a"], "seen_models": ["b"]}, "seen_models names 'b'"),
    ],
)
def test_parameters_of_an_ensemble_that_do_not_go_together(changes, said):
    with pytest.raises(ParameterError, match=said):
        EnsembleParams(**(ENSEMBLE | changes))


def test_parameters_of_a_submission_that_do_not_go_together():
    for changes, message in (
        ({"known_count": 20, "prior": "prior.csv"}, "known_count and prior both"),
        ({"repair": True, "pull": 0.5}, "pull must be 1 with it"),
        ({"columns": ["image", "image"]}, "need different names"),
        ({"columns": ["image", ""]}, "header: false writes no head line"),
        ({"image_column": "file"}, "none of path, name.*names_file"),
        ({"inner_name": "a.csv"}, "set packing: zip"),
    ):
        with pytest.raises(ParameterError, match=message):
            submit(**({"known_count": 0} | changes))


ODD_NAMES = ["..", "../up", "/etc", "a/b", "a\\b", "-rf", ".hidden", "", "a ", "a\n", "a\0", "~"]
ODD_NAMES += ["$HOME", "é", "CON", "nul.txt", "Lpt1", "dot.", "x" * 101, "C:", "a:b"]


@pytest.mark.parametrize("name", ODD_NAMES, ids=repr)
def test_names_of_folders_cannot_lead_out_of_the_run(name):
    for record, values, field in (
        (SubmitParams, SUBMIT, "run"),
        (SubmitParams, SUBMIT, "ensemble"),
        (DistillParams, DISTILL, "name"),
        (DistillParams, DISTILL, "backbone"),
    ):
        with pytest.raises(ParameterError, match=field):
            record(**(values | {field: name}))
    for record, values, field in (
        (EnsembleParams, ENSEMBLE, "models"),
        (DistillParams, DISTILL, "teachers"),
    ):
        with pytest.raises(ParameterError, match=field):
            record(**(values | {field: [name]}))


def test_usual_names_of_networks_and_models_are_taken():
    for name in ("b0", "vit_base_patch16_224.augreg_in21k", "tf_efficientnet_lite0", "A-1", "0012"):
        assert DistillParams(**(DISTILL | {"name": name, "backbone": name})).name == name


def read(monkeypatch=None, injected="", **changes):
    """40's parameters as its notebook reads them, with other names of the notebook beside them."""
    if injected:
        kernel(monkeypatch, [f"# Parameters\n{injected}\n"])
    names = notebook_defaults("40_submit") | {"contest": "", "pd": pd, "STAGE": "40_submit"}
    return SubmitParams.read(names | changes, "40_submit")


def test_declared_names_alone_are_read():
    cfg = read(rule="plain", anything=1)
    assert cfg.rule == "plain" and cfg.slack == 1.25 and cfg.processes == 1


def test_a_parameter_that_is_missing_is_named():
    names = notebook_defaults("40_submit")
    del names["slack"]
    with pytest.raises(ParameterError, match="slack: .*give it a value in the parameters cell"):
        SubmitParams.read(names | {"contest": ""}, "40_submit")


def test_a_name_that_a_cell_took_for_a_table_is_said_in_short():
    with pytest.raises(ParameterError) as error:
        read(ensemble=pd.DataFrame({"a": range(1000)}))
    assert "ensemble = " in str(error.value) and len(str(error.value)) < 400


def test_names_that_papermill_injected_are_checked(monkeypatch):
    assert read(monkeypatch, "run = 'mine'\nslack = 1.25", run="mine").run == "mine"
    with pytest.raises(ParameterError, match="slcak = 1.5.*no such parameter: check the spelling"):
        read(monkeypatch, "slcak = 1.5", slcak=1.5)


def test_names_that_the_parameters_cell_sets_are_checked(monkeypatch):
    kernel(monkeypatch, ["rul = 1", "# run\nrule: str = 'plain'  # a rule\nslack = 1.5\n"])
    assert read(rule="plain", slack=1.5, rul=1).slack == 1.5
    kernel(monkeypatch, ["# run\nrul: str = 'plain'\n"])
    with pytest.raises(ParameterError, match="rul = 'plain'.*near it is 'rule'"):
        read(rul="plain")


@pytest.mark.parametrize("injected", [True, False], ids=["injected", "by hand"])
def test_hardware_is_taken_from_the_names_though_no_cell_lists_it(monkeypatch, injected):
    assert read(monkeypatch, "processes = 2" if injected else "", processes=2).processes == 2
    with pytest.raises(ParameterError, match="device = 'tpu'"):
        read(device="tpu")


CONTEST_TEXT = """
run: mine
data_root: mine
processes: 3
test_ratios: []
10_train:
  - {name: one, epochs: 6}
  - {name: two, epochs: 7, balance: prior}
20_distill: {epochs: 2}
40_submit: {known_count: 4, rule: sinkhorn}
"""


@pytest.fixture
def contest(tmp_path):
    """A contest file, as a notebook names it."""
    (tmp_path / "mine.yaml").write_text(CONTEST_TEXT)
    return str(tmp_path / "mine.yaml")


def test_a_notebook_takes_its_section_and_the_shared_values(contest, capsys):
    cfg = read(contest=contest)
    assert (cfg.known_count, cfg.rule, cfg.run, cfg.processes) == (4, "sinkhorn", "mine", 3)
    # 40 has no test ratios.
    assert capsys.readouterr().out == (
        f"parameters of {contest}, section 40_submit: run 'mine', data_root 'mine', processes 3, "
        "known_count 4, rule 'sinkhorn'\n"
    )


def test_by_hand_it_is_said_which_steps_of_the_run_are_done(contest, capsys, monkeypatch, tmp_path):
    def said(**more):
        read(contest=contest, outputs=str(tmp_path), **more)
        return capsys.readouterr().out.splitlines()[-1]

    assert "done:" not in said()
    for name in ("10_train-two", "20_distill"):
        (tmp_path / "mine/stages").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"mine/stages/{name}.json").write_text("{}")
    line = "of the run mine done: 10_train-two, 20_distill; to come: 10_train-one, 40_submit"
    assert said() == line
    # The pipeline itself says it.
    assert "done:" not in said(monkeypatch=monkeypatch, injected="slack = 1.25")


def test_what_is_set_in_the_cell_beats_the_file_and_is_said_once(contest, capsys):
    cfg = read(contest=contest, known_count=5, slack=2.0, processes=1)
    assert (cfg.known_count, cfg.slack, cfg.rule, cfg.processes) == (5, 2.0, "sinkhorn", 1)
    first, second = capsys.readouterr().out.splitlines()
    assert "known_count" not in first and "rule 'sinkhorn'" in first
    assert second == (
        "set here, not as in the file: processes 1 (there 3), known_count 5 (there 4), "
        "slack 2.0 (there 1.25)"
    )


def test_a_value_that_equals_the_default_is_set_where_papermill_injected_it(
    contest, capsys, monkeypatch
):
    assert read(contest=contest, rule="cap").rule == "sinkhorn"
    assert read(monkeypatch, "rule = 'cap'", contest=contest, rule="cap").rule == "cap"
    assert "set here, not as in the file: rule 'cap' (there 'sinkhorn')" in capsys.readouterr().out


def train(contest, **changes):
    names = notebook_defaults("10_train") | {"contest": contest}
    return TrainParams.read(names | changes, "10_train")


def test_the_name_chooses_among_the_sections_of_a_stage(contest):
    first = train(contest)
    assert (first.name, first.epochs, first.test_ratios) == ("one", 6, [])
    second = train(contest, name="two")
    assert (second.name, second.epochs, second.balance) == ("two", 7, "prior")
    own = train(contest, name="b0", epochs=3)
    assert (own.name, own.epochs, own.balance, own.run) == ("b0", 3, "none", "mine")
    usual = notebook_defaults("10_train")["name"]
    assert train(contest).name != usual


def test_it_is_said_which_section_the_parameters_come_from(contest, capsys):
    train(contest)
    assert "section 10_train 'one', the first of one, two" in capsys.readouterr().out
    train(contest, name="two")
    assert "section 10_train 'two'" in capsys.readouterr().out
    train(contest, name="zz")
    said = capsys.readouterr().out
    assert "no section of 10_train is named 'zz' (there are one, two): a further model" in said
    assert "there 'lite0'" not in said
    LowQualityParams.read(notebook_defaults("04_lowq") | {"contest": contest}, "04_lowq")
    assert "no section 04_lowq: its shared values" in capsys.readouterr().out


def test_a_stage_that_the_file_does_not_name_takes_the_shared_values(contest):
    names = notebook_defaults("04_lowq") | {"contest": contest}
    assert LowQualityParams.read(names, "04_lowq").run == "mine"


def test_a_relative_contest_lies_in_the_project_whatever_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(contest="params/demo.yaml").known_count == 10


def test_a_contest_file_that_is_not_there_is_named():
    with pytest.raises(ParameterError) as error:
        read(contest="params/gone.yaml")
    text = str(error.value)
    assert f"{PROJECT}/params/gone.yaml is not there" in text and "params/" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("40_submit: {rule: best}", "section 40_submit: .*rule = 'best'"),
        ("40_submit: {ruel: cap}", "section 40_submit: .*near it is 'rule'"),
        ("runn: mine", "'runn' is neither a stage"),
        ("40_submit: {contest: a.yaml}", "a contest file names no contest"),
        ("contest: a.yaml", "'contest' is neither a stage"),
        ("40_submit: [{rule: cap}]", "40_submit runs once"),
        ("10_train: 3", "section 10_train is 3, not names"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_name(tmp_path, text, said):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ParameterError, match=f"(?s)bad.yaml.*{said}"):
        read(contest=str(tmp_path / "bad.yaml"), rule="plain")


def test_parameters_do_not_change_after_the_check():
    with pytest.raises(ValueError, match="frozen"):
        submit().run = "other"


@pytest.mark.parametrize(
    ("global_batch", "micro", "processes", "steps"),
    [(2000, 25, 80, 1), (32, 16, 1, 2), (32, 16, 2, 1), (64, 8, 2, 4)],
)
def test_accumulation(global_batch, micro, processes, steps):
    cut = accumulation(global_batch, micro, processes)
    assert cut.steps == steps
    assert cut.processes * cut.micro_batch * cut.steps == global_batch


@pytest.mark.parametrize(("global_batch", "micro", "processes"), [(30, 16, 1), (16, 16, 2)])
def test_accumulation_that_does_not_divide(global_batch, micro, processes):
    with pytest.raises(ParameterError, match=f"{global_batch} is not a multiple of .* = "):
        accumulation(global_batch, micro, processes)


def test_data_root_looks_in_the_project_then_beside_it(tmp_path):
    project = tmp_path / "checkout"
    beside = tmp_path / "shared" / "data" / "birds"
    beside.mkdir(parents=True)
    assert data_root("birds", project) == beside
    inside = project / "data" / "birds"
    inside.mkdir(parents=True)
    assert data_root("birds", project) == inside
    assert data_root(str(beside), project) == beside


def test_data_root_moved_by_the_environment(tmp_path, monkeypatch):
    project = tmp_path / "checkout"
    (project / "data" / "birds").mkdir(parents=True)
    moved = tmp_path / "disk" / "birds"
    moved.mkdir(parents=True)
    monkeypatch.setenv("FGVC_DATA", str(moved.parent))
    assert data_root("birds", project) == moved
    monkeypatch.setenv("FGVC_DATA", str(moved))
    assert data_root("birds", project) == moved


def test_data_root_that_is_nowhere_lists_the_places(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError) as error:
        data_root("birds", tmp_path / "checkout")
    text = str(error.value)
    assert str(tmp_path / "checkout" / "data" / "birds") in text
    assert str(tmp_path / "shared" / "data" / "birds") in text and "FGVC_DATA" in text
    monkeypatch.setenv("FGVC_DATA", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="gone"):
        data_root("birds", tmp_path)


def test_a_network_is_a_name_of_timm_an_id_of_the_hub_or_a_folder():
    for name in ("test_vit.r160_in1k", "hf-hub:imageomics/bioclip-2", "local-dir:/data/my net"):
        assert DistillParams(**(DISTILL | {"backbone": name})).backbone == name
    for name in ("a/b", "hf-hub:bioclip", "hf-hub:../x", "local-dir:", "s3:a/b", "hf-hub:a/b c"):
        with pytest.raises(ParameterError, match="a network is a timm name, hf-hub:"):
            DistillParams(**(DISTILL | {"backbone": name}))


@pytest.mark.parametrize(
    "text",
    ["010", "0x1F", "1_000", "12:30:00", "0b11", "-010", "1_0.5", "1:30.5", "00", "2020-11-27"],
)
@pytest.mark.parametrize("line", ["epochs: {}", "list: [1, [2, {}]]", "{}: 1", "a: [{{b: {}}}]"])
def test_a_number_that_yaml_reads_as_another_one_is_refused(tmp_path, text, line):
    (tmp_path / "x.yaml").write_text("run: a\n" + line.format(text) + "\n")
    with pytest.raises(ParameterError, match=f"line 2: YAML reads {text} as .* in quotes"):
        read_yaml(tmp_path / "x.yaml")


def test_plain_numbers_and_text_in_quotes_stay_as_they_are(tmp_path):
    (tmp_path / "x.yaml").write_text(
        "a: [0, 10, -3, .5, 5., 1.5e+3, '010', \"12:30:00\", 0012a, 1e-3]"
    )
    found = [0, 10, -3, 0.5, 5.0, 1500.0, "010", "12:30:00", "0012a", "1e-3"]
    assert read_yaml(tmp_path / "x.yaml") == {"a": found}
