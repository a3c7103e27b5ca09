"""The records of the stages: what stands in them is what parameters and notebooks have."""

from typing import get_args

import pytest

from fgvc_utils.contest import parameters
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.pipeline.stages import STAGES, making, stage_table

every_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)


@every_stage
def test_the_parameters_that_a_record_names_are_there(stage):
    named = {*stage.table_parameters, *stage.model_parameters, *stage.file_parameters}
    named |= {stage.vote_parameter} - {""}
    named |= {"name"} if stage.makes == "model" else set()
    named |= {"train", "test"} if stage.lists_images else set()
    assert named <= set(stage.parameters.model_fields)


def test_a_stage_reads_tables_of_stages_before_it_and_each_journal_is_of_one():
    order = list(STAGES)
    for name, stage in STAGES.items():
        assert not stage.table or order.index(stage.table) < order.index(name)
        assert bool(stage.journals) == bool(stage.decides_on)
    journals = [journal for stage in STAGES.values() for journal in stage.journals]
    assert len(journals) == len(set(journals))


def test_the_tables_that_a_parameter_can_name_are_those_that_stages_make():
    assert list(get_args(parameters.Table)) == making("table")


@pytest.mark.parametrize("name", STAGES)
def test_a_notebook_asks_for_the_journals_of_its_record(name):
    source = (PROJECT / "notebooks" / f"{name}.ipynb").read_text("utf-8")
    assert source.count("Journal(cfg.journal(") == len(STAGES[name].journals)


def test_the_table_for_the_docs_has_a_row_a_stage():
    lines = stage_table().splitlines()
    assert len(lines) == len(STAGES) + 2 and len({line.count("|") for line in lines}) == 1
    row = next(line for line in lines if "`40_submit`" in line)
    assert "`tables/<table>`" in row and "`ensemble/<ensemble>`" in row and "submission.csv" in row
