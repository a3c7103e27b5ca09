"""The check of a whole contest finds, in seconds and all at once, what would stop it later."""

import os
import resource
import shutil
import tempfile
import time
import unicodedata
from collections import namedtuple

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet
import pytest
import yaml
from PIL import Image

from fgvc_utils.contest import tables
from fgvc_utils.contest.file_states import STATE
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.places import PROJECT, data_root
from fgvc_utils.core import files, shared_memory
from fgvc_utils.core.files import write_json
from fgvc_utils.core.locks import Held, only_one
from fgvc_utils.jobs.records import Job, as_written
from fgvc_utils.pipeline import seen_files
from fgvc_utils.pipeline.checking import check
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.pipeline.running import main, run
from fgvc_utils.pipeline.stamps import code_of, inputs_of, results_of, why

CLASSES = ["ant", "bee", "cat"]
EVERY_STAGE = {
    "run": "mine",
    "data_root": "mine",
    "01_noise": {"folds": 3},
    "02_coarse": {"folds": 3},
    "03_fine": {"folds": 3},
    "04_lowq": {},
    "10_train": [{"name": "one", "global_batch": 8, "micro_batch": 8}],
    "20_distill": [{"name": "student", "global_batch": 8, "micro_batch": 8}],
    "30_ensemble": {"global_batch": 8, "micro_batch": 8},
    "40_submit": {"known_count": 2},
}


def picture(random):
    """A picture unlike any other."""
    pixels = random.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 48))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root of three classes of six images, and six test images."""
    monkeypatch.setenv("FGVC_DATA", str(tmp_path / "data"))
    root = tmp_path / "data" / "mine"
    random = np.random.default_rng(0)
    for name in CLASSES:
        (root / "train" / name).mkdir(parents=True)
        for number in range(6):
            picture(random).save(root / "train" / name / f"{number}.jpg")
    (root / "test").mkdir()
    for number in range(6):
        picture(random).save(root / "test" / f"t{number}.jpg")
    return root


@pytest.fixture
def found(tmp_path, root):
    """Check the contest with some sections changed; a section of None is left out."""

    def of(sample_seconds=0.5, **sections):
        contest = EVERY_STAGE | {"outputs": str(tmp_path / "outputs")}
        for name, changes in sections.items():
            name = name.removeprefix("s")
            if changes is None:
                del contest[name]
            elif isinstance(contest.get(name), dict):
                contest[name] = contest[name] | changes
            elif isinstance(contest.get(name), list) and isinstance(changes, dict):
                contest[name] = [contest[name][0] | changes]
            else:
                contest[name] = changes
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(contest))
        return check(read_contest(tmp_path / "mine.yaml"), sample_seconds)

    return of


def steps_of(found, tmp_path):
    """The steps of the contest as it is."""
    found(0)
    return read_contest(tmp_path / "mine.yaml")


def read_before(step):
    """Leave what a run of 01 leaves of the files that it read."""
    seen = seen_files.look(step.cfg)
    root = data_root(step.cfg.data_root)
    digests = [files.file_digest(root / path) for path in seen["path"]]
    step.cfg.table_path("inventory").parent.mkdir(parents=True, exist_ok=True)
    seen[["image_id", "path"]].assign(digest=digests).to_parquet(step.cfg.table_path("inventory"))
    stamp = {"parameters": step.cfg.model_dump(mode="json"), "inputs": inputs_of(step)}
    seen_files.keep(step, seen)
    write_json(stamp | {"code": code_of(step.stage), "results": results_of(step)}, step.stamp)


def only(problems, *parts):
    """The one problem that is there, which says all parts."""
    assert len(problems) == 1, problems
    for part in parts:
        assert part in problems[0], problems[0]


def test_a_contest_that_is_well_has_no_problem_and_is_counted(found, root, tmp_path):
    result = found(s01_noise={"cache_side": 302})
    assert result.errors == result.warnings == []
    assert result.facts[0] == ("18 train images under 3 classes of 6 to 6 images, 6 test images")
    assert result.facts[1] == (
        "40_submit: head line 'path,class', one class; a line looks like 'test/t0.jpg,ant'"
    )
    assert "are needed below" in result.facts[2] and "predictions of models" in result.facts[2]
    assert not (tmp_path / "outputs").exists(), "a check writes nothing"


def test_all_problems_are_said_at_once(found, root):
    shutil.rmtree(root / "test")
    (root / "train" / "stray.txt").write_text("x")
    errors = found(
        s10_train={"backbone": "no_such_net", "micro_batch": 7},
        s30_ensemble={"models": ["two"]},
        s40_submit={"known_count": 0, "prior": "prior.csv"},
    ).errors
    for said in ("stray.txt", "test is neither", "'no_such_net'", "micro_batch", "'two'", "prior"):
        assert sum(said in error for error in errors) == 1, (said, errors)
    assert len(errors) == 6


# What changed since the last run.


@pytest.fixture
def first(found, root, tmp_path):
    """The step 01, which has read the images of the contest."""
    old = 10**18
    for path in root.rglob("*.jpg"):
        os.utime(path, ns=(old, old))
    (step,) = (step for step in steps_of(found, tmp_path) if step.stage == "01_noise")
    read_before(step)
    assert why(step) == "" and not any("since" in text for text in found(0).warnings)
    return step


def _in_place(root):
    with open(root / "train/ant/1.jpg", "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"xx")
    os.utime(root / "train/ant/1.jpg", ns=(10**18, 10**18))


def _swapped(root):
    one, other = root / "train/ant/1.jpg", root / "test/t1.jpg"
    one.rename(root / "between")
    other.rename(one)
    (root / "between").rename(other)


def _replaced(root):
    (root / "test/t1.jpg").write_bytes(b"x" * (root / "test/t1.jpg").stat().st_size)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_in_place, "1 changed, such as 'train/ant/1.jpg'"),
        (_swapped, "2 changed, such as 'train/ant/1.jpg' and 1 more"),
        (_replaced, "1 changed, such as 'test/t1.jpg'"),
        (lambda root: (root / "test/t1.jpg").unlink(), "1 went, such as 'test/t1.jpg'"),
        (lambda root: shutil.copy(root / "test/t1.jpg", root / "test/n.jpg"), "1 came, such as"),
        (
            lambda root: (root / "train/ant").rename(root / "train/emu"),
            "6 moved, such as 'train/ant/0.jpg' to 'train/emu/0.jpg'",
        ),
    ],
    ids=["in place", "swapped", "replaced", "gone", "came", "class renamed"],
)
def test_what_came_went_and_changed_is_said_and_makes_01_run(found, root, first, change, said):
    change(root)
    assert any(f"since the last run of 01_noise: {said}" in text for text in found(0).warnings)
    assert f"images ({said}" in why(first)


def test_what_was_touched_copied_or_is_back_changes_nothing(found, root, first):
    (root / "train/ant/1.jpg").rename(root / "away.jpg")
    assert "1 went" in why(first)
    shutil.copy(root / "away.jpg", root / "train/ant/1.jpg")
    os.utime(root / "train/bee/1.jpg")
    os.chmod(root / "train/bee/2.jpg", 0o600)
    (root / "train/ant/Thumbs.db").write_bytes(b"x")
    assert why(first) == ""
    assert not any("since" in text for text in found(0).warnings)
    seen_files.remember(first)
    states = seen_files.changes(first).known
    assert (states["mtime_ns"] != 10**18).sum() == 2


def test_a_listing_that_says_something_else_of_an_image_is_said(found, root, tmp_path):
    lines = [f"train/{name}/{n}.jpg,{name}" for name in CLASSES for n in range(6)]
    missing = "train/ant/late.jpg,ant"
    (root / "train.csv").write_text("\n".join(["path,label", *lines, missing]) + "\n")
    given = {"s01_noise": {"folds": 3, "train": "train.csv"}}
    found(0, **given)
    (step,) = (s for s in read_contest(tmp_path / "mine.yaml") if s.stage == "01_noise")
    late = root / "train/ant/late.jpg"
    late.write_bytes(b"")
    read_before(step)
    known = pd.read_parquet(seen_files.record_path(step))
    known.loc[known["path"] == "train/ant/late.jpg", [*STATE, "digest"]] = [-1, -1, -1, -1, ""]
    known.to_parquet(seen_files.record_path(step))
    late.unlink()
    assert why(step) == ""
    shutil.copy(root / "train/ant/0.jpg", late)
    assert "1 came, such as 'train/ant/late.jpg'" in why(step)
    late.unlink()
    (root / "train.csv").write_text("\n".join(["path,label", *lines[::-1], missing]) + "\n")
    assert why(step) == ""
    lines[0] = "train/ant/0.jpg,bee"
    (root / "train.csv").write_text("\n".join(["path,label", *lines, missing]) + "\n")
    said = "1 have another label, id or side, such as 'train/ant/0.jpg' from 'ant' to 'bee'"
    assert any(said in text for text in found(0, **given).warnings) and said in why(step)


def test_a_decision_on_an_image_that_changed_since_is_said(found, root, first, tmp_path):
    journal = Journal(tmp_path / "outputs/mine/decisions/03_fine.csv")
    journal.append("train/ant/1.jpg", "keep", reviewer="a")
    _in_place(root)
    said = "1 decisions are on images whose files changed since the last run"
    assert any(said in text for text in found(0).warnings)


# Places.


def test_a_data_root_without_the_folder_says_what_it_holds(found, root):
    (root / "train").rename(root / "training")
    only(found().errors, "train is neither a folder", "which holds test, training")


@pytest.mark.parametrize("side", ["../mine/../../etc", "/etc", "out"])
def test_a_place_outside_the_data_root_is_an_error(found, root, side):
    os.symlink("/etc", root / "out")
    only(found(s01_noise={"train": side}).errors, "outside the data root")
    only(found(s40_submit={"known_count": 0, "prior": f"{side}/passwd"}).errors, "outside the data")


def test_an_empty_folder_an_empty_class_and_a_hidden_one_are_said(found, root):
    (root / "train" / "dodo").mkdir()
    (root / "train" / ".eel").mkdir()
    warnings = found().warnings
    assert any("without any image are no classes: 'dodo'" in text for text in warnings)
    assert any("begins with a dot): 'train/.eel/'" in text for text in warnings)
    shutil.rmtree(root / "test")
    (root / "test").mkdir()
    only(found().errors, "test holds no image")


def test_results_that_cannot_be_written_are_said_before_any_work(found, tmp_path, monkeypatch):
    def refused(**where):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    only(found().errors, "cannot be written to (Read-only file system); set `outputs`")


def test_results_among_the_images_are_an_error(found, root):
    only(found(outputs=str(root / "train" / "outputs")).errors, "lies among the images of train")


def test_a_data_root_that_can_only_be_read_is_enough(found, root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for path in (root, *before):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert found().errors == []
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_disk_without_room_says_how_much_is_needed(found, monkeypatch):
    usage = namedtuple("Usage", "total used free")(10**12, 0, files.SPARE_BYTES + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    only(found().errors, "outputs: about 0.0", "the cache of pictures", "larger disk")


def test_memory_that_is_not_there_is_a_warning(found, monkeypatch):
    memory = namedtuple("Memory", "available")(10)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    warnings = [text for text in found().warnings if "of memory" in text]
    assert len(warnings) == 5 and "take a larger machine" in warnings[0]


def test_shared_memory_that_is_too_small_is_a_warning_before_the_run(found, monkeypatch):
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 64 * 2**20)
    warnings = [text for text in found(workers=8).warnings if "of shared memory" in text]
    only(warnings, "01_noise, 02_coarse, 03_fine and 3 more", "0.07 GB free", "--shm-size=1g")
    assert not [text for text in found(workers=0).warnings if "of shared memory" in text]


# Images and classes.


def write_listing(root, rows, name="train.csv"):
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(root / name, index=False)


def test_a_listing_whose_paths_are_missing_says_where_it_looked_and_what_is_near(found, root):
    paths = [(f"train/ant/{number}.JPG", "ant") for number in range(3)]
    write_listing(root, [*paths, ("train/bee/1.jpg", "bee")])
    warnings = found(s01_noise={"train": "train.csv"}, s10_train=None, s20_distill=None).warnings
    assert any("3 of 4 paths of train.csv" in w and "but '0.jpg' is there" in w for w in warnings)
    write_listing(root, [("mine/train/ant/1.jpg", "ant"), ("mine/train/bee/1.jpg", "bee")])
    errors = found(s01_noise={"train": "train.csv"}).errors
    assert any("2 of 2 paths" in e and "write them relative to the data root" in e for e in errors)


def test_a_path_in_another_unicode_spelling_is_told_apart_from_one_that_is_missing(found, root):
    composed, parted = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    (root / "train/ant/0.jpg").rename(root / "train/ant" / parted)
    rows = [(f"train/{name}/{n}.jpg", name) for name in CLASSES for n in range(1, 6)]
    write_listing(root, [*rows, (f"train/ant/{composed}", "ant")])
    warnings = found(s01_noise={"train": "train.csv"}).warnings
    assert any("is there in another Unicode spelling (NFD)" in text for text in warnings)


def test_a_listing_without_the_column_is_an_error(found, root):
    write_listing(root, [("train/ant/1.jpg", "ant")])
    only(
        found(s01_noise={"train": "train.csv", "label_column": "species"}).errors,
        "has no column 'species'; it has path, label",
    )


def test_images_that_no_one_can_read_are_an_error_and_some_a_warning(found, root):
    (root / "train/ant/0.jpg").write_bytes(b"")
    result = found(sample_seconds=20)
    assert result.errors == []
    assert any(
        "1 of 18 images that were opened cannot be read, such as train/ant/0.jpg (empty" in w
        for w in result.warnings
    )
    for path in (root / "test").iterdir():
        path.write_bytes(b"<html>404</html>")
    only(
        found(sample_seconds=20).errors,
        "test: 6 of 6 images",
        "not one could be read: are these images?",
    )


def test_one_picture_in_place_of_all_images_is_said(found, root):
    assert not any("show one picture" in text for text in found(sample_seconds=20).warnings)
    error = picture(np.random.default_rng(1))
    for number, path in enumerate(sorted((root / "train").glob("*/*.jpg"))[3:]):
        error.resize((60 + number, 50)).save(path)
    said = [text for text in found(sample_seconds=20).warnings if "show one picture" in text]
    only(said, "train: 15 of 18 images that were compared show one picture, such as 'train/")


def test_one_class_is_no_contest(found, root):
    for name in CLASSES[1:]:
        shutil.rmtree(root / "train" / name)
    errors = found(s40_submit={"known_count": 6}).errors
    assert any("are of one class, 'ant'" in error for error in errors)


def test_one_image_in_all_says_all_that_it_is_too_few_for(found, root):
    for path in [*root.glob("train/*/*.jpg"), *root.glob("test/*.jpg")]:
        if path.name not in ("t0.jpg",) and path != root / "train/ant/0.jpg":
            path.unlink()
    errors = found(s40_submit={"known_count": 1}).errors
    for said in ("are of one class", "cannot be cut into 3 folds", "is larger than the 1 images"):
        assert any(said in error for error in errors), (said, errors)


def test_one_image_a_class_cannot_be_held_out(found, root):
    for path in root.glob("train/*/[1-5].jpg"):
        path.unlink()
    given = {name: {"global_batch": 1, "micro_batch": 1} for name in ("s10_train", "s20_distill")}
    given |= {"s30_ensemble": {"global_batch": 1, "micro_batch": 1}}
    only(found(**given).errors, "10_train-one", "30_ensemble", "all 3 classes have one image", "-1")
    given = {name: values | {"held_out_fold": -1} for name, values in given.items()}
    result = found(**given)
    assert result.errors == [] and any("3 of 3 classes have one" in w for w in result.warnings)


def test_thousands_of_classes_of_one_image_each_are_said_and_take_seconds(found, root):
    rows = [(f"train/ant/{number}.jpg", f"class {number:05d}") for number in range(5000)]
    write_listing(root, rows)
    began = time.monotonic()
    warnings = found(s01_noise={"train": "train.csv"}).warnings
    assert any("5000 of 5000 classes have one image" in text for text in warnings)
    assert time.monotonic() - began < 20


def test_class_names_that_differ_in_case_or_blanks_alone_are_said(found, root):
    (root / "train/cat").rename(root / "train/ANT ")
    assert any("1 class names differ in nothing but case or blanks" in w for w in found().warnings)


def test_folders_within_class_folders_are_said_with_the_class_they_get(found, root):
    shutil.move(root / "train/ant", root / "train/bee/ant")
    warnings = found().warnings
    (said,) = [text for text in warnings if "within class folders" in text]
    assert "6 images" in said and "'train/bee/ant/0.jpg', whose class is 'bee'" in said
    shutil.move(root / "train/bee/ant", root / "train/ant")
    (root / "test/more").mkdir()
    (root / "test/t0.jpg").rename(root / "test/more/t0.jpg")
    assert not any("within class folders" in text for text in found().warnings)


# Networks.


def test_weights_of_another_network_are_found_before_any_work(found, tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, tmp_path / "w.safetensors")
    weights = {"weights": str(tmp_path / "w.safetensors"), "backbone": "test_efficientnet"}
    only(found(s10_train=weights).errors, "10_train", "tensors missing", "of another network")
    (tmp_path / "w.safetensors").write_bytes(b"short")
    weights = {"weights": str(tmp_path / "w.safetensors"), "backbone": "test_convnext"}
    only(found(s10_train=weights).errors, "w.safetensors was not loaded: it is damaged")


def test_every_backbone_of_a_stage_is_checked_and_said_once(found):
    errors = found(
        s02_coarse={"further_backbones": ["no_such_net"]},
        s03_fine={"further_backbones": ["no_such_net"]},
    ).errors
    only(errors, "02_coarse, 03_fine: backbone 'no_such_net' is no timm network")


def test_a_further_network_is_checked_with_its_own_weights_and_size(found, tmp_path):
    further = {"backbone": "test_maxvit", "weights": "none", "size": 100}
    errors = found(s03_fine={"further_backbones": [further]}).errors
    only(errors, "03_fine: backbone 'test_maxvit' cannot take pictures of 100 px", "96, 128, 160")
    further |= {"size": 96, "weights": "gone.safetensors"}
    only(found(s03_fine={"further_backbones": [further]}).errors, "gone.safetensors is not there")
    further = {"backbone": "vit_tiny_patch16_224", "weights": "none"}
    warnings = found(s03_fine={"further_backbones": [further | {"size": 90}]}).warnings
    only([w for w in warnings if "patches" in w], "does not see the last 10 px", "80, 96")
    assert not any(
        "patches" in w
        for w in found(s03_fine={"further_backbones": [further | {"size": 96}]}).warnings
    )


def test_clip_without_its_activation_is_told(found):
    clip = {"backbone": "vit_base_patch32_clip_224.openai", "weights": "hub", "size": 224}
    told = [
        text for text in found(s03_fine={"further_backbones": [clip]}).warnings if "Quick" in text
    ]
    only(told, "as vit_base_patch32_clip_quickgelu_224.openai it gives the features")


def test_a_network_of_the_hub_that_is_not_here_is_told_and_not_fetched(found):
    hub = {"backbone": "hf-hub:nobody/nothing", "weights": "hub"}
    result = found(s03_fine={"further_backbones": [hub]})
    assert not result.errors
    only([w for w in result.warnings if "hf-hub" in w], "which needs a connection")


def test_adapters_need_layers_to_adapt(found):
    only(found(s10_train={"lora_rank": 4}).errors, "10_train-one: lora_rank", "set lora_rank to 0")
    vit = {"backbone": "test_vit", "weights": "none", "size": 32, "lora_rank": 4}
    assert not found(s10_train=vit).errors


def test_a_network_of_two_classifiers_is_named(found, root):
    two_heads = {"backbone": "deit_tiny_distilled_patch16_224", "weights": "none"}
    only(found(s10_train=two_heads).errors, "10_train", "not one fully connected layer but several")


def test_a_gpu_that_is_not_there_is_an_error(found, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    only(found(device="cuda").errors, "device cuda with processes 1, but this machine has 0 CUDA")
    errors = found(nodes=2).errors
    assert any("rendezvous is ''" in error and "give 'host:port'" in error for error in errors)
    assert sum("is not a multiple of" in error for error in errors) == 2, "like ones are said once"


# What stages take from each other.


def test_what_no_stage_makes_and_nobody_made_is_an_error(found):
    only(found(s02_coarse=None).errors, "03_fine: its table 02_coarse is not there")
    only(found(s30_ensemble=None).errors, "40_submit: ensemble 'vote' is not there")
    only(found(s20_distill={"teachers": ["two"]}).errors, "teachers names 'two'", "there are 'one'")
    only(found(s30_ensemble={"models": ["one", "later"]}).errors, "models names 'later'")
    only(found(s10_train={"held_out_fold": 3}).errors, "01_noise cuts the folds 0 to 2")
    only(found(s10_train={"global_batch": 16}).errors, "larger than the 12 images")
    errors = found(s10_train=None, s20_distill=None).errors
    only(errors, "30_ensemble: no stage before it makes a model", "put 10_train")
    only(found(s01_noise={"test": ""}).errors, "40_submit needs test images")


def test_a_start_is_made_before_the_fit_that_begins_from_it(found, tmp_path):
    one, two = {"name": "one", "size": 32}, {"name": "two", "start": "one", "size": 48}
    own = {"table": "03_fine", "fold_table": "03_fine", "global_batch": 8, "micro_batch": 8}

    def problems(*models):
        return found(s10_train=[own | model for model in models]).errors

    assert problems(one, two) == []
    only(problems(two, one), "10_train-two: start names 'one', which 10_train-one makes after it")
    absent = two | {"start": "gone"}
    only(problems(one, absent), "start names 'gone', which no stage before it makes and outputs")
    student = found(s10_train=own | one | {"start": "student"}, s20_distill={"name": "student"})
    only(student.errors, "which 20_distill-student makes after it")
    other = two | {"backbone": "tf_efficientnet_lite1"}
    only(problems(one, other), "'one', whose backbone is tf_efficientnet_lite0")
    only(problems(one | {"fit": "probe"}, two), "start names 'one', a probe")
    # One of an earlier run.
    folder = tmp_path / "outputs/mine/models/gone"
    folder.mkdir(parents=True)
    job = Job(name="gone", folder="", rows="", classes=CLASSES, fit="full", backbone="test_vit")
    write_json(as_written(job), folder / "job.json")
    write_json({}, folder / "done.json")
    only(problems(one, absent), "'gone', whose backbone is test_vit")


def test_a_table_of_an_earlier_run_that_is_cut_is_an_error(found, tmp_path, root):
    from fgvc_utils.contest.listing import list_images

    path = tmp_path / "outputs/mine/tables/02_coarse.parquet"
    tables.write_table(tables.new_table(list_images(root, "train", "test")), path)
    earlier = {"s01_noise": None, "s02_coarse": None}
    assert found(**earlier).errors == []
    path.write_bytes(path.read_bytes()[:-9])
    errors = found(**earlier).errors
    assert any("02_coarse.parquet cannot be read as a Parquet file" in error for error in errors)


def test_a_model_of_other_classes_that_would_join_the_ensemble_is_an_error(found, tmp_path):
    for name, classes in (("old", ["ant", "gnu"]), ("fit", CLASSES)):
        folder = tmp_path / "outputs/mine/models" / name
        write_json({"classes": classes}, folder / "job.json")
        write_json({}, folder / "done.json")
    asked = found()
    assert asked.errors == []
    only(
        [text for text in asked.facts if "are not asked" in text], "'fit', 'old' of an earlier run"
    )
    named = found(s30_ensemble={"models": ["one", "old"]})
    only(named.errors, "model 'old' of an earlier run was trained for other classes", "'bee'")
    assert found(s30_ensemble={"models": ["one", "fit"]}).errors == []


def test_what_is_no_journal_is_an_error(found, tmp_path):
    journal = Journal(tmp_path / "outputs/mine/decisions/02_coarse.csv")
    journal.append("train/ant/1.jpg", "relabel", "bee", reviewer="a")
    assert found().errors == []
    with open(journal.path, "ab") as file:
        file.write(b"train/ant/2.jpg,re")
    assert any("1 lines do not count, first line 3" in text for text in found().warnings)
    journal.path.write_text("a,b\n1,2\n")
    only(found().errors, "02_coarse.csv is not a journal")


@pytest.mark.parametrize("name", ["01_noise", "01_audit", "02_coarse", "03_fine"])
def test_decisions_on_images_that_are_gone_are_said_and_stop_nothing(found, root, tmp_path, name):
    journal = Journal(tmp_path / f"outputs/mine/decisions/{name}.csv")
    journal.append_all([(f"train/ant/{n}.jpg", "keep", "", "") for n in range(6)], reviewer="a")
    before = found().warnings
    (root / "train/ant/3.jpg").unlink()
    result = found()
    assert result.errors == []
    (said,) = set(result.warnings) - set(before)
    assert "1 of 6 decisions are on images" in said and "'train/ant/3.jpg'" in said
    assert "another contest" not in said
    (root / "train/ant").rename(root / "train/emu")
    result = found()
    assert result.errors == [] and any(
        "6 of 6" in text and "another contest?" in text for text in result.warnings
    )


def test_decisions_on_classes_that_are_gone_are_said_and_stop_nothing(found, tmp_path):
    journal = Journal(tmp_path / "outputs/mine/decisions/04_lowq.csv")
    journal.append_all([("gnu", "drop", "", ""), ("ant", "keep", "", "")], reviewer="a")
    result = found()
    assert result.errors == [] and any(
        "1 of 2 decisions" in w and "'gnu'" in w for w in result.warnings
    )


# The texts of the cleaning.


def test_texts_that_do_not_fit_are_an_error(found, root, tmp_path):
    given = {"s03_fine": {"text_scores": 0.5, "text_file": "texts.npz"}}
    only(found(**given).errors, "03_fine", "texts.npz is not there", "text_tower makes such a file")
    vectors = np.ones((3, 1280), np.float32)
    np.savez(root / "texts.npz", names=np.array(["ant", "bee", "gnu"]), vectors=vectors)
    only(found(**given).errors, "texts.npz lacks 1 of 3 classes: cat")
    np.savez(root / "texts.npz", names=np.array(CLASSES), vectors=vectors[:, :512])
    only(found(**given).errors, "vectors of 512 values", "text_backbone has 1280", "projection")
    np.savez(root / "texts.npz", names=np.array(CLASSES), vectors=vectors)
    assert found(**given).errors == []
    np.savez(tmp_path / "elsewhere.npz", names=np.array(CLASSES), vectors=vectors)
    elsewhere = {"s03_fine": {"text_scores": 0.5, "text_file": str(tmp_path / "elsewhere.npz")}}
    only(found(**elsewhere).errors, "outside the data root")
    off = {"s03_fine": {"text_file": "gone.npz"}}
    assert found(**off).errors == []


def test_decisions_on_classes_that_the_contest_does_not_have_are_an_error(found, tmp_path):
    stated = [{"merge": ["ant", "bee"], "into": "ant"}, {"split": "cat", "into": "bee"}]
    assert found(s04_lowq={"class_decisions": stated}).errors == []
    wrong = {"class_decisions": [*stated, {"swap": ["ant", "bees"]}]}
    only(found(s04_lowq=wrong).errors, "swap ant and bees", "no class 'bees'; near it is 'bee'")
    journal = Journal(tmp_path / "outputs/mine/decisions/04_classes.csv")
    journal.append('["pair", "ant", "bee"]', "merge", reviewer="a")
    assert found().errors == []
    # A person's decision outlives its class, and the image that stands for a part.
    journal.append('["part", "gnu", "train/ant/1.jpg"]', "split", reviewer="a")
    journal.append('["part", "ant", "train/ant/99.jpg"]', "split", reviewer="a")
    assert found().errors == []
    assert any("04_classes.csv: 2 of 3 decisions are on" in text for text in found().warnings)
    part = {"class_decisions": [{"split": "ant", "part": "train/ant/99.jpg"}]}
    only(found(s04_lowq=part).errors, "the contest has no image 'train/ant/99.jpg'")
    journal.append('["part", "gnu", "train/ant/1.jpg"]', "merge", reviewer="a")
    only(found().errors, "does not fit")


# The submission.


def test_a_prior_of_other_classes_is_an_error(found, root):
    given = {"s40_submit": {"known_count": 0, "prior": "prior.csv"}}
    only(found(**given).errors, "prior.csv is not there")
    (root / "prior.csv").write_text("class,count\nant,1\nbee,2\ngnu,3\n")
    only(found(**given).errors, "class 'gnu' is not one of the contest's")
    (root / "prior.csv").write_text("class;count\nant;1\n")
    only(found(**given).errors, "separated by semicolons")
    (root / "prior.csv").write_text("class,count\nant,1\nbee,2\ncat,3\n")
    assert found(**given).errors == []


def test_more_test_images_than_the_classes_have_room_for_are_an_error(found):
    only(found(s40_submit={"known_count": 1, "slack": 1.0}).errors, "covers 3 of 6 test images")
    assert any(
        "known_count 5 × 3 classes are 15 test images" in text
        for text in found(s40_submit={"known_count": 5}).warnings
    )


def test_test_images_of_one_name_are_an_error(found, root):
    (root / "test/more").mkdir()
    shutil.copy(root / "test/t0.jpg", root / "test/more/t0.jpg")
    only(found(s40_submit={"image_column": "name"}).errors, "two test images are called 't0.jpg'")


def test_a_class_that_a_spreadsheet_would_run_is_found_before_any_work(found, root):
    (root / "train" / "ant").rename(root / "train" / "=1+1")
    only(found(s40_submit={}).errors, "would run 1 of the names as formulas, first '=1+1'")
    assert not found(s40_submit={"allow_formulas": True}).errors


def test_a_sample_submission_decides_what_the_file_looks_like(found, root):
    lines = "".join(f"t{number}.jpg,ant\n" for number in range(6))
    (root / "sample_submission.csv").write_text(f"image,class\n{lines}")
    named = {"image_column": "name", "columns": ["image", "class"]}
    quiet = {"s01_noise": {"cache_side": 302}}
    assert found(s40_submit=named, **quiet).warnings == []
    result = found(**quiet)
    assert result.warnings == []
    assert any(
        "head line 'image,class', one class, images by their name; a line" in text
        for text in result.facts
    )
    only(found(s40_submit={"image_column": "stem"}, **quiet).warnings, "taken is 'name', as in")
    (root / "sample_submission.csv").write_text(f"image,class\n{lines.replace('ant', 'gnu')}")
    only(found(s40_submit=named, **quiet).warnings, "names 1 classes that no train image has")
    (root / "sample_submission.csv").write_text("image,class\na.jpg,ant\nb.jpg,ant\n")
    only(found(s40_submit=named, **quiet).errors, "none of its values, such as 'b.jpg', is what")
    assert found(s40_submit=named | {"sample": ""}, **quiet).errors == []


# From the command line.


def test_check_alone_says_what_it_found_and_run_stops_at_it(found, root, tmp_path, capsys):
    found(s10_train={"micro_batch": 7})
    for arguments in (["--check"], []):
        assert main([str(tmp_path / "mine.yaml"), *arguments]) == 2
        said = capsys.readouterr().err
        assert "to mend before a run: 10_train-one: global_batch 8 is not" in said
        assert "The contest cannot run: 1 to mend" in said
    assert not (tmp_path / "outputs").exists()
    found()
    assert main([str(tmp_path / "mine.yaml"), "--check"]) == 0
    assert "18 train images" in capsys.readouterr().out


def test_a_check_of_many_files_takes_little_memory(found, root):
    """Links to one file: listing them costs what listing files does."""
    few = 20_000
    for number in range(few):
        os.link(root / "train/ant/0.jpg", root / f"train/ant/{number:06d}.jpg")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = found(sample_seconds=0.2)
    assert result.errors == [] and result.facts[0].startswith("20018 train images")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 400


def test_one_stage_alone_is_not_stopped_by_what_comes_after_it(found, tmp_path, capsys):
    assert found(s40_submit={"known_count": 1, "slack": 1.0}).errors
    run(tmp_path / "mine.yaml", None, "01_noise", dry=True)
    assert "to mend" not in capsys.readouterr().err
    run(tmp_path / "mine.yaml", None, "40_submit", dry=True)
    assert "raise known_count" in capsys.readouterr().err


# The tables of docs/troubleshooting.md.


def told(call):
    """What a mistake is answered with, in one line."""
    try:
        result = call()
    except Exception as error:
        assert isinstance(error, ValueError | OSError | Held), error
        return " ".join(str(error).split())
    return " ".join(result.text().split())


def mistakes(found, root, tmp_path):
    """Mistakes of new users: a part of the row on it → how to make it."""
    from fgvc_utils.contest.listing import list_images
    from fgvc_utils.core.files import whole_file

    def listing(content, name="train.csv", encoding="utf-8", **columns):
        (root / name).write_text(content, encoding)
        return found(s01_noise={"train": name, **columns})

    def contest(content):
        (tmp_path / "bad.yaml").write_text(content)
        return read_contest(tmp_path / "bad.yaml")

    def linked(place, target):
        os.symlink(target, root / place)
        return found()

    def spoilt(path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return found()

    def weights():
        import torch
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
        return found(s10_train={"weights": str(tmp_path / "w.safetensors")})

    def stranger():
        journal = Journal(tmp_path / "outputs/mine/decisions/03_fine.csv")
        journal.append("elsewhere.jpg", "keep", reviewer="a")
        return found()

    def changed():
        (step,) = (step for step in steps_of(found, tmp_path) if step.stage == "01_noise")
        read_before(step)
        (root / "train/ant/9.jpg").write_bytes((root / "train/ant/1.jpg").read_bytes())
        return found()

    def full():
        with whole_file(tmp_path / "x.bin"):
            raise OSError(28, "No space left on device")

    def two_spellings():
        for form in ("NFC", "NFD"):
            name = unicodedata.normalize(form, "é")
            shutil.copytree(root / "train/ant", root / "train" / name)
        return list_images(root, "train", "test")

    def same_names():
        shutil.copytree(root / "test", root / "test/more")
        return found(s40_submit={"image_column": "name", "known_count": 4})

    def sample(*names):
        rows = "".join(f"{name},ant\n" for name in names)
        (root / "sample_submission.csv").write_text(f"image,class\n{rows}")
        return found()

    def no_pictures():
        for path in (root / "test").iterdir():
            path.write_bytes(b"<html>")
        return found()

    def twice():
        found()
        lock = tmp_path / "outputs/mine/.pipeline.lock"
        lock.parent.mkdir(parents=True)
        with only_one(lock, "held by this test", ""):
            return run(tmp_path / "mine.yaml", None, None, dry=False)

    def old_model(*named):
        folder = tmp_path / "outputs/mine/models/old"
        write_json({"classes": ["x"]}, folder / "job.json")
        write_json({}, folder / "done.json")
        return found(s30_ensemble={"models": list(named)})

    def replaced():
        (step,) = (step for step in steps_of(found, tmp_path) if step.stage == "01_noise")
        read_before(step)
        journal = Journal(tmp_path / "outputs/mine/decisions/03_fine.csv")
        journal.append("train/ant/1.jpg", "keep", reviewer="a")
        (root / "train/ant/1.jpg").write_bytes((root / "train/bee/1.jpg").read_bytes() + b" ")
        return found()

    def shards():
        schema = pyarrow.schema({"image": pyarrow.binary(), "label": pyarrow.string()})
        pyarrow.parquet.write_table(schema.empty_table(), root / "train.parquet")
        return found(s01_noise={"train": "train.parquet"})

    lines = "path,label\ntrain/ant/1.jpg,ant\ntrain/bee/1.jpg,bee\n"
    decisions = tmp_path / "outputs/mine/decisions/01_noise.csv"
    table = tmp_path / "outputs/mine/tables/02_coarse.parquet"
    no_coarse = {"s01_noise": None, "s02_coarse": None}
    return {
        "data_root": lambda: found(data_root=str(root / "gone")),
        "neither a folder": lambda: found(s01_noise={"train": "trian"}),
        "lies beside": lambda: (root / "train/1.jpg").write_text("x") and found(),
        "since the last run": changed,
        "by its name": lambda: (root / "test/labels.csv").write_text("x") and found(),
        "of one class": lambda: listing("path,label\ntrain/ant/1.jpg,ant\n"),
        "link to a folder": lambda: linked("train/more", root / "train/ant"),
        "within class folders": lambda: (
            (root / "train/ant").rename(root / "train/bee/ant") and found()
        ),
        "outside the data root": lambda: found(s01_noise={"train": "../.."}),
        "Unicode spellings": two_spellings,
        "are not below": lambda: listing(lines.replace(".jpg", ".JPG")),
        "is no folder": lambda: listing(lines, train_images="gone"),
        "pictures inside": shards,
        "class_names": lambda: (
            (root / "names.json").write_text('{"x": "y"}')
            and found(s01_noise={"class_names": "names.json"})
        ),
        "has no column": lambda: listing(lines, label_column="species"),
        "UTF-8": lambda: listing("path,label\nx.jpg,é\n", encoding="latin-1"),
        "semicolons": lambda: listing(lines.replace(",", ";")),
        "tabs": lambda: contest("run: a\n10_train:\n\tepochs: 3\n"),
        "neither a stage": lambda: contest("run: a\nepochz: 3\n10_train:\n"),
        "no such parameter": lambda: contest("run: a\n10_train:\n  epochz: 3\n"),
        "preset": lambda: contest("run: a\n10_train:\n  preset: stronk\n"),
        "in params/": lambda: read_contest(tmp_path / "gone.yaml"),
        "should be a valid": lambda: contest("run: a\n10_train:\n  epochs: many\n"),
        "at least 2 items": lambda: contest("run: a\n40_submit:\n  columns: [image]\n"),
        "as formulas": lambda: (
            (root / "train/ant").rename(root / "train/=1+1") and found(s40_submit={})
        ),
        "as text": lambda: contest("run: 7\n10_train:\n"),
        "were opened": no_pictures,
        "timm network": lambda: found(s10_train={"backbone": "efficientnet_b99"}),
        "'package'": lambda: found(s10_train={"backbone": "efficientnet_b0"}),
        "another network": weights,
        "take pictures of": lambda: found(
            s10_train={"backbone": "test_maxvit", "weights": "none", "size": 100}
        ),
        "no fully connected": lambda: found(s10_train={"lora_rank": 4}),
        "a multiple of": lambda: found(s10_train={"micro_batch": 5}),
        "can learn from": lambda: found(s10_train={"global_batch": 512}),
        "of shared memory": lambda: found(workers=10_000),
        "CUDA GPUs": lambda: found(device="cuda", processes=64),
        "No space left": full,
        "run the notebook": lambda: tables.read_table(tmp_path / "04_lowq.parquet"),
        "start names": lambda: found(s10_train={"start": "absent"}),
        "teachers names": lambda: found(s20_distill={"teachers": ["absent"]}),
        "no stage before it makes it": lambda: found(s03_fine=None),
        "other classes": lambda: old_model("one", "old"),
        "are not asked": old_model,
        "no longer count": replaced,
        "Parquet file": lambda: spoilt(table, b"PAR1") and found(**no_coarse),
        "another pipeline": twice,
        "is not a journal": lambda: spoilt(decisions, b"image,verdict\n"),
        "stay in the journal": stranger,
        "known_count or": lambda: found(s40_submit={"known_count": 1, "slack": 1.0}),
        "two test images": same_names,
        "no probabilities": lambda: found(s40_submit={"form": "probabilities"}),
        "is called": lambda: sample("a.jpg", "b.jpg"),
        "is an example": lambda: sample("t0.jpg", "t1.jpg"),
    }


def rows_of_the_page():
    """What a user sees, by docs/troubleshooting.md: the messages, with … for what varies."""
    lines = (PROJECT / "docs/troubleshooting.md").read_text("utf-8").splitlines()
    return [line.split(" | ")[0].strip("| `") for line in lines if line.startswith("| `")]


def test_every_row_on_troubles_is_tried(found, root, tmp_path):
    rows = rows_of_the_page()
    assert len(rows) >= 38
    made = mistakes(found, root, tmp_path)
    untried = [row for row in rows if not any(key in row for key in made)]
    # Room is another test's, which stands in for a full disk.
    assert untried == ["are needed below …, … are free, of which … must stay"]


@pytest.mark.parametrize("row", rows_of_the_page())
def test_a_mistake_gets_the_message_that_the_page_shows(found, root, tmp_path, monkeypatch, row):
    made = mistakes(found, root, tmp_path)
    if "must stay" in row:
        usage = namedtuple("Usage", "total used free")(10**12, 0, files.SPARE_BYTES + 1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
        said = told(found)
    else:
        (make,) = [call for key, call in made.items() if key in row]
        said = told(make)
    at = 0
    for part in row.split("…"):
        assert part.strip() in said[at:], f"{part!r} is not in: {said}"
        at = said.index(part.strip(), at) + len(part.strip())
