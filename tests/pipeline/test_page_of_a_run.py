"""The page is written after each step, tells of one that failed, and never ends a run."""

import json

import pytest
import yaml

from fgvc_utils.core.files import write_json
from fgvc_utils.pages import run_page as pages
from fgvc_utils.pipeline import run_page, running
from fgvc_utils.pipeline.contest_file import read_contest
from fgvc_utils.pipeline.kernels import NotebookFailed
from fgvc_utils.pipeline.stages import STAGES

CONTEST = {"run": "mine", "data_root": "mine", "01_noise": {}, "02_coarse": {}, "03_fine": {}}


class NoRanks:
    """In place of the processes, which these notebooks ask for nothing."""

    def start(self, cfg):
        pass


@pytest.fixture
def contest(tmp_path, monkeypatch):
    """A contest whose notebooks write one line; 02 fails while `failing` holds it."""
    (tmp_path / "mine" / "train" / "a").mkdir(parents=True)
    (tmp_path / "mine" / "train" / "a" / "1.jpg").write_bytes(b"1")
    (tmp_path / "mine" / "test").mkdir()
    monkeypatch.setenv("FGVC_DATA", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(CONTEST | {"outputs": str(tmp_path / "o")}))
    steps, failing, seen = read_contest(tmp_path / "mine.yaml"), {"02_coarse"}, []

    def run_notebook(source, output, parameters):
        page = output.with_name("index.html")
        seen.append(page.read_text("utf-8") if page.is_file() else "")
        output.parent.mkdir(parents=True, exist_ok=True)
        error = {"output_type": "error", "ename": "ValueError", "evalue": "<b>no room</b>"}
        failed = output.stem in failing
        output.write_text(json.dumps({"cells": [{"outputs": [error] * failed}]}))
        if failed:
            raise NotebookFailed("no room")
        table = output.parent / "tables" / f"{output.stem}.parquet"
        table.parent.mkdir(exist_ok=True)
        table.write_text(output.stem)
        write_json({}, output.parent / "report.json")

    monkeypatch.setattr(running, "run_notebook", run_notebook)

    def run(only=None):
        running._run_steps(steps, None, only, NoRanks())
        return (steps[0].cfg.folder / "index.html").read_text("utf-8")

    run.failing, run.seen, run.page = failing, seen, steps[0].cfg.folder / "index.html"
    return run


def test_the_page_follows_the_run_step_by_step(contest, capsys):
    contest.failing.clear()
    last = contest()
    assert "<b>3 of 3</b>" in last
    # What a step found of the page that the one before it had left.
    first, second, third = contest.seen
    assert not first and "<b>1 of 3</b>" in second and "<b>2 of 3</b>" in third
    assert STAGES["03_fine"].does in second
    assert f"{contest.page}" in capsys.readouterr().out


def test_where_one_stage_is_asked_for_the_others_are_not_told_to_be_done(contest, capsys):
    page = contest(only="01_noise")
    said = capsys.readouterr().out
    assert "[2/3] 02_coarse: not asked for\n[3/3] 03_fine: not asked for\n" in said
    assert "done before" not in said and "<b>1 of 3</b>" in page


def test_a_step_that_failed_is_on_the_page_with_its_error(contest):
    with pytest.raises(NotebookFailed):
        contest()
    page = contest.page.read_text("utf-8")
    assert "02_coarse failed: ValueError: &lt;b&gt;no room&lt;/b&gt;" in page
    assert "<b>1 of 3</b>" in page and ">to come<" in page


def test_a_page_that_cannot_be_written_stops_no_run_and_is_told(contest, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise MemoryError("no room for\na page")

    monkeypatch.setattr(pages, "write", broken)
    contest.failing.clear()
    with pytest.raises(FileNotFoundError):
        contest()
    assert len(contest.seen) == 3
    said = capsys.readouterr().out
    assert "index.html, could not be written (MemoryError: no room for a page)" in said


def test_a_run_that_was_done_before_gets_its_page(contest):
    contest.failing.clear()
    contest()
    contest.page.unlink()
    assert "<b>3 of 3</b>" in contest()
    assert len(contest.seen) == 3


def test_the_command_writes_pages_and_refuses_what_is_no_run(contest, tmp_path, capsys):
    contest.failing.clear()
    contest()
    contest.page.unlink()
    assert run_page.main([str(contest.page.parent)]) == 0
    assert capsys.readouterr().out.rstrip().endswith(str(contest.page))
    assert "<b>3 of 3</b>" in contest.page.read_text("utf-8")
    assert run_page.main([str(tmp_path / "mine")]) == 2
    assert "is no run" in capsys.readouterr().err


def test_what_pages_know_of_stages_is_what_their_records_say():
    facts = run_page.stage_facts()
    assert list(facts) == list(STAGES)
    assert (
        facts["03_fine"].usual["relabel_bar"] == 0.7 and facts["01_noise"].usual["processes"] == 1
    )
    # A nested record has its own defaults filled in, as a stamp has.
    assert "colour_jitter" in facts["02_coarse"].usual["rounds"][0]
