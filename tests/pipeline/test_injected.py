"""What papermill sets makes a notebook read the record that the pipeline has checked."""

import sys
from types import SimpleNamespace

import pytest

from fgvc_utils.contest import machines
from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.pipeline.contest_file import Step, injected, read_contest
from fgvc_utils.pipeline.stages import STAGES

SHIPPED = [step for f in sorted((PROJECT / "params").glob("*.yaml")) for step in read_contest(f)]


@pytest.fixture
def as_read(monkeypatch, capsys):
    """The record that a step's notebook reads in a kernel where papermill set some values."""

    def read(step, values):
        cell = "# Parameters\n" + "\n".join(f"{name} = {value!r}" for name, value in values.items())
        shell = SimpleNamespace(user_ns={"In": ["", cell]})
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        names = notebook_defaults(step.stage) | values
        return STAGES[step.stage].parameters.read(names, step.stage)

    return read


@pytest.mark.parametrize("step", SHIPPED, ids=lambda step: f"{step.cfg.run} {step.name}")
def test_a_notebook_reads_the_record_that_the_pipeline_checked(step, as_read, capsys):
    values = injected(step)
    assert as_read(step, values) == step.cfg
    # What the contest's rules allow is said too, where it names rules.
    line, *rules = capsys.readouterr().out.splitlines()
    assert line.startswith(f"parameters of {step.cfg.contest}, section {step.stage}")
    assert all(each.startswith("rules ") for each in rules)


@pytest.mark.parametrize("step", SHIPPED, ids=lambda step: f"{step.cfg.run} {step.name}")
def test_only_what_differs_from_the_notebook_is_set(step):
    usual = notebook_defaults(step.stage)
    values = injected(step)
    assert values["contest"] == f"params/{step.cfg.run}.yaml"
    same = {n for n, v in values.items() if n in usual and v == usual[n]}
    assert same <= {"contest", "name"}
    # papermill warns of names that are not in the cell; these stand in the contest file.
    assert not values.keys() & machines.NAMES


def test_a_step_made_by_hand_beats_the_file_in_whatever_it_differs(as_read):
    (step,) = [s for s in SHIPPED if s.cfg.run == "demo" and s.stage == "40_submit"]
    usual = notebook_defaults("40_submit")
    assert step.cfg.known_count != usual["known_count"]
    changes = {"known_count": usual["known_count"], "processes": 2, "slack": 3.0}
    other = Step(step.stage, step.name, step.cfg.model_copy(update=changes))
    assert as_read(other, injected(other)) == other.cfg
    without = Step(step.stage, step.name, step.cfg.model_copy(update={"contest": ""} | changes))
    assert as_read(without, injected(without)) == without.cfg


def test_another_name_than_the_sections_have_takes_what_the_step_says(as_read):
    step = next(s for s in SHIPPED if s.cfg.run == "demo" and s.stage == "10_train")
    other = Step(step.stage, "10_train-b0", step.cfg.model_copy(update={"name": "b0"}))
    assert as_read(other, injected(other)) == other.cfg
    usual = notebook_defaults("10_train")["name"]
    other = Step(step.stage, "10_train-b0", step.cfg.model_copy(update={"name": usual}))
    assert as_read(other, injected(other)) == other.cfg
