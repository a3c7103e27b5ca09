"""The registry of random changes: each entry is whole, and everything that is made of it has it."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from small_jobs import small_job

from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.jobs.records import Distillation, Job, Recipe
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.training import augment, changes, params
from fgvc_utils.training.changes import CHANGES, MIXES, switched_on
from fgvc_utils.training.recipes import training_job

# What the notebooks have beside the recipe: of the run, of the data, and of what they show.
NOTEBOOK_ONLY = {
    "refit",
    "name",
    "preset",
    "table",
    "fold_table",
    "held_out_fold",
    "decoded_gb",
    "feature_views",
    "start_head_decays",
}
TRAINERS = ("10_train", "20_distill")


def named(entry):
    return entry.name


@pytest.fixture
def picture():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8))


@pytest.fixture(params=TRAINERS)
def given(request):
    """The defaults of a notebook that trains, by name, and its record."""
    record = STAGES[request.param].parameters
    defaults = notebook_defaults(request.param)
    return {name: defaults[name] for name in record.model_fields if name in defaults}, record


def usual(change):
    """A change's parameters, its switch at one half."""
    return {change.switch: 0.5, **change.usual}


def test_each_change_has_a_builder_that_takes_its_parameters_in_the_order_of_the_registry():
    assert list(augment.BUILDERS) == [change.switch for change in CHANGES]
    for change in CHANGES:
        taken = augment.BUILDERS[change.switch].takes
        assert {change.switch, *taken} == set(change.types) == {change.switch, *change.usual}
        assert set(change.strengths) <= set(change.types)
        assert bool(change.strengths) == (change.doubling is not None)
    assert list(augment.MIXERS) == [mix.kind for mix in MIXES]
    assert get_args(changes.MixKind) == ("none", "cutmix", "mixup", "cutmix+mixup")


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_the_steps_of_the_sheet_change_a_picture_within_the_ranges_of_the_parameters(
    change, picture
):
    for step in change.steps(change.usual):
        for name, value in step.settings.items():
            assert TypeAdapter(change.types[name]).validate_python(value) == value
        torch.manual_seed(0)
        step_of = augment.random_changes(step.settings)
        outs = [step_of(picture) for _ in range(5)]
        assert all(out.shape == picture.shape and out.dtype == torch.uint8 for out in outs)
        assert any(not torch.equal(out, picture) for out in outs)


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_a_change_that_is_off_draws_nothing_and_leaves_no_trace_in_the_job(change, picture):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    off = augment.random_changes(usual(change) | {change.switch: 0})
    assert torch.equal(off(picture), picture)
    assert torch.equal(torch.random.get_rng_state(), before)
    every = {name: value for each in CHANGES for name, value in usual(each).items()}
    assert switched_on(SimpleNamespace(**every)) == every
    less = switched_on(SimpleNamespace(**(every | {change.switch: 0})))
    assert set(every) - set(less) == set(change.types)


def test_a_setting_that_no_change_takes_is_refused():
    with pytest.raises(ValueError, match="no random change takes 'no_such_probability'"):
        augment.random_changes({"flip_probability": 0.5, "no_such_probability": 0.1})


@pytest.mark.parametrize("change", CHANGES, ids=named)
def test_both_notebooks_have_its_parameters_and_their_jobs_train_with_them(given, change):
    defaults, record = given
    assert set(change.types) <= set(defaults), "the parameters cell lacks one"
    job = training_job(record(**(defaults | usual(change))), "a", ["x"])
    assert usual(change).items() <= job.augmentation.items()
    for name in change.types:
        with pytest.raises(ParameterError, match=name):
            record(**(defaults | {name: -1}))
        with pytest.raises(ParameterError, match=name):
            record(**{key: value for key, value in defaults.items() if key != name})
    if len(change.strengths) == 2:
        low, high = change.strengths
        crossed = {low: change.usual[high], high: change.usual[low]}
        with pytest.raises(ParameterError, match=f"{low} is above {high}"):
            record(**(defaults | crossed))


@pytest.mark.parametrize("kind", get_args(changes.MixKind))
def test_both_notebooks_take_each_kind_of_mixing(given, kind):
    defaults, record = given
    assert training_job(record(**(defaults | {"mix": kind})), "a", ["x"]).mix == kind
    assert "+".join(mix.kind for mix in changes.mixes_of(kind)) == kind.replace("none", "")
    with pytest.raises(ParameterError, match="mix"):
        record(**(defaults | {"mix": "fmix"}))


def test_a_job_takes_every_setting_of_the_recipe_by_name(given):
    """Each parameter is a field of the job, a random change, or named as the notebook's alone."""
    defaults, record = given
    asked = {*Recipe.model_fields, *changes.parameter_types(), *NOTEBOOK_ONLY}
    assert set(params.Recipe.model_fields) == asked
    shared = {*Recipe.model_fields, *Distillation.model_fields} & set(record.model_fields)
    # Nothing that excludes another setting.
    defaults |= {"start_head": "random", "crop_smallest": 0.0}
    if "variant" in defaults:
        # Variant A learns from unlabelled images and takes no balance.
        defaults |= {"variant": "B"}
    other = other_values(record, defaults, shared)
    assert set(other) == shared
    other |= {"seed": 7, "size": 96, "backbone": "b", "weights": "hub"}
    # Pairs that exclude each other, and weights that a start has itself.
    pairs = {"compile": "gradient_checkpointing", "ema_decay": "swa_epochs", "start": "weights"}
    pairs |= {"crop_smallest": "random_crop", "start_head": "classifier"}
    neutral = {"start": "", "weights": "none", "ema_decay": 0, "swa_epochs": 0}
    neutral |= {"crop_smallest": 0.0, "random_crop": True}
    neutral |= {"start_head": "random", "classifier": "linear"}
    for kept in (pairs.keys(), pairs.values()):
        left = {*pairs, *pairs.values()} - set(kept)
        cfg = record(**(defaults | other | {name: neutral.get(name, False) for name in left}))
        job = training_job(cfg, "a", ["x"], teachers=[Path("t")], teacher_weight=0.5)
        for name in other.keys() - left:
            assert getattr(job, name) == getattr(cfg, name) != Job.model_fields[name].default, name


def other_values(record, defaults, names):
    """For some parameters a value that is not the default of a job."""
    found = {}
    for name in names:
        neutral = Job.model_fields[name].default
        values = (True, False, 0.25, 1.25, 3, 4, "adamw", "probe", "mixup", "bfloat16", "device")
        for value in (*values, "prior", "gce", "arcface"):
            if value == neutral or type(value) is not type(neutral):
                continue
            try:
                record(**(defaults | {name: value}))
            except ParameterError:
                continue
            found[name] = value
            break
    return found


def test_what_our_data_did_not_ask_for_is_off_in_the_notebooks(given):
    defaults, record = given
    job = training_job(record(**defaults), "a", ["x"])
    angular = ["classifier", "arcface_centres", "arcface_margin", "arcface_scale"]
    for name in ("crop_stretch", "mixup_alpha", "loss", "gce_q", *angular):
        assert getattr(job, name) == Job.model_fields[name].default
    new = {"rand_augment_strength", "augmix_probability", "erasing_probability"}
    assert not new & job.augmentation.keys()


def test_a_crop_cannot_be_the_centre_and_of_a_random_size(given):
    defaults, record = given
    with pytest.raises(ParameterError, match="set random_crop to true, or crop_smallest to 0"):
        record(**(defaults | {"random_crop": False, "crop_smallest": 0.35}))


def test_a_probe_cannot_begin_a_classifier_of_angles(given):
    defaults, record = given
    with pytest.raises(ParameterError, match="start_head to random, or classifier to linear"):
        record(**(defaults | {"start_head": "probe", "classifier": "arcface"}))


def test_a_jobs_settings_are_held_to_their_ranges(tmp_path):
    for wrong in ({"base_lr": 0}, {"label_smoothing": 1}, {"epochs": -1}, {"test_ratio": 0.5}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            small_job(tmp_path, **wrong)


def test_the_registry_loads_no_torch():
    code = "import sys, fgvc_utils.training.params; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
