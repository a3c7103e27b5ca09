"""The journal keeps every decision, whatever happens while it is written."""

import csv
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest

from fgvc_utils.contest import journal as journal_module
from fgvc_utils.contest.journal import COLUMNS, HEADER, Decision, Journal, majority


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "decisions" / "01_noise.csv")


def test_missing_file_holds_no_decisions(journal):
    assert journal.read().empty and list(journal.read().columns) == COLUMNS
    assert journal.latest().empty and journal.latest().index.name == "item"
    assert journal.cut_lines() == []
    assert not journal.path.exists()


def test_values_come_back_as_they_were_given(journal):
    item, shown = 'a,"b" é/0007.jpg', "→ 0012, p 0.93"
    journal.append(item, "relabel", "0012", shown, reviewer="Ann, B.")
    (row,) = journal.read().to_dict("records")
    assert datetime.fromisoformat(row.pop("time")).utcoffset().total_seconds() == 0
    assert row == {
        "item": item,
        "decision": "relabel",
        "label": "0012",
        "reviewer": "Ann, B.",
        "shown": shown,
    }
    assert journal.latest().loc[item, "label"] == "0012"


def test_file_is_a_header_and_a_line_a_decision(journal):
    journal.append("007", "keep", reviewer="ann")
    before = journal.path.read_bytes()
    journal.append("008", "drop", shown="two\nlines\t here", reviewer="ann")
    after = journal.path.read_bytes()
    assert before.startswith(HEADER.encode()) and after.startswith(before)
    assert len(after.decode().splitlines()) == 3
    assert journal.read()["shown"].tolist() == ["", "two lines here"]
    assert journal.read()["item"].tolist() == ["007", "008"]


def test_reviewer_is_the_user_by_default(journal, monkeypatch):
    monkeypatch.setenv("LOGNAME", "carla")
    monkeypatch.delenv("FGVC_REVIEWER", raising=False)
    journal.append("a", "keep")
    monkeypatch.setenv("FGVC_REVIEWER", "Dora")
    journal.append("b", "keep")
    assert journal.read()["reviewer"].tolist() == ["carla", "Dora"]


def test_a_reviewer_changes_their_own_mind_and_nobody_elses(journal):
    journal.append("a", "keep", reviewer="ann")
    journal.append("a", "drop", reviewer="bob")
    journal.append("b", "relabel", "0012", reviewer="ann")
    journal.append("b", "relabel", "0007", reviewer="bob")
    journal.append("c", "keep", reviewer="ann")
    journal.append("c", "keep", reviewer="bob")
    # Nobody's decision replaces the other's: where two differ, none is in force.
    assert journal.latest()["decision"].to_dict() == {"c": "keep"}
    apart = journal.disagreements()
    assert apart[["item", "reviewer", "decision", "label"]].to_numpy().tolist() == [
        ["a", "ann", "keep", ""],
        ["a", "bob", "drop", ""],
        ["b", "ann", "relabel", "0012"],
        ["b", "bob", "relabel", "0007"],
    ]
    journal.append("b", "undo", reviewer="bob")
    journal.append("a", "drop", reviewer="ann")
    assert journal.latest()["decision"].to_dict() == {"a": "drop", "b": "relabel", "c": "keep"}
    assert journal.latest().loc["b", "reviewer"] == "ann"
    assert journal.disagreements().empty


def test_most_voices_win(journal):
    for reviewer, decision in [("ann", "keep"), ("bob", "drop"), ("carla", "keep")]:
        journal.append("a", decision, reviewer=reviewer)
    assert journal.latest().loc["a", ["decision", "reviewer"]].tolist() == ["keep", "carla"]
    assert len(journal.disagreements()) == 3
    assert journal.voices() == {
        "a": {"ann": ("keep", ""), "bob": ("drop", ""), "carla": ("keep", "")}
    }
    assert majority([]) is None
    assert majority([("keep", ""), ("drop", "")]) is None


def with_room(limit, call, path):
    """Call the journal at `path` where a file may have `limit` bytes, as on a disk that is full."""
    script = (
        "import resource, signal, sys; from fgvc_utils.contest.journal import Decision, Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"Journal(sys.argv[1]).{call}"
    )
    return subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)


def test_a_selection_is_written_whole_or_not_at_all(journal):
    journal.append_all([Decision("a", "keep"), Decision("b", "relabel", "0012", "x")], "ann")
    before, size = journal.path.read_bytes(), journal.size()
    assert journal.read()["item"].tolist() == ["a", "b"] and size == len(before)
    with pytest.raises(ValueError, match="`item`"):
        journal.append_all([Decision("c", "keep"), Decision("", "keep")])
    journal.append_all([])
    limit = size + 60
    run = with_room(
        limit, "append_all([Decision('c', 'drop'), Decision('d', 'drop')])", journal.path
    )
    assert run.returncode == 1 and "OSError" in run.stderr
    assert journal.path.read_bytes() == before


def test_last_line_wins_and_undo_goes_back_one(journal):
    for item, decision in [("a", "keep"), ("b", "drop"), ("a", "drop"), ("b", "undo")]:
        journal.append(item, decision)
    assert journal.latest()["decision"].to_dict() == {"a": "drop"}
    journal.append("a", "undo")
    assert journal.latest()["decision"].to_dict() == {"a": "keep"}
    journal.append("a", "undo")
    journal.append("a", "undo")
    assert journal.latest().empty
    journal.append("a", "keep")
    assert journal.latest()["decision"].to_dict() == {"a": "keep"}
    assert len(journal.read()) == 8


@pytest.mark.parametrize(
    ("values", "error", "named"),
    [
        ({"item": ""}, ValueError, "item"),
        ({"decision": " "}, ValueError, "decision"),
        ({"item": 12}, TypeError, "item"),
        ({"label": 12}, TypeError, "label"),
        ({"shown": None}, TypeError, "shown"),
        ({"item": "a\nb"}, ValueError, "item"),
        ({"label": "a\rb"}, ValueError, "label"),
    ],
)
def test_wrong_values_are_named_and_nothing_is_written(journal, values, error, named):
    with pytest.raises(error, match=f"`{named}`"):
        journal.append(**{"item": "a", "decision": "keep", **values})
    assert not journal.path.exists()


@pytest.mark.parametrize("header", ["image_id,decision\n", "a", "item;decision;label\n", "\n"])
def test_foreign_file_is_refused_and_left_alone(journal, header):
    journal.path.parent.mkdir()
    journal.path.write_text(header)
    for act in (journal.read, journal.latest, journal.cut_lines):
        with pytest.raises(ValueError, match="01_noise.csv.*'label'"):
            act()
    with pytest.raises(ValueError, match="missing columns"):
        journal.append("a", "keep")
    assert journal.path.read_text() == header


def test_unknown_column_is_named(journal):
    journal.path.parent.mkdir()
    journal.path.write_text(HEADER.strip() + ",mood\n")
    with pytest.raises(ValueError, match="'mood'"):
        journal.read()


def test_file_cut_at_any_byte_loses_only_the_cut_line(journal):
    """Whatever was on the disk when the power failed, the next decision finds its place."""
    journal.append("first", "keep", shown="p 0.5")
    whole = journal.path.read_bytes()
    journal.append('sec"ond, é', "relabel", "0012", 'a "b", c')
    full = journal.path.read_bytes()
    for size in range(len(full)):
        journal.path.write_bytes(full[:size])
        expected = ["first"] if size >= len(whole) else []
        assert journal.read()["item"].tolist() == expected, full[:size]
        on_a_line_end = size in (0, len(HEADER), len(whole))
        assert len(journal.cut_lines()) == (0 if on_a_line_end else 1), full[:size]
        journal.append("third", "drop")
        assert journal.read()["item"].tolist() == [*expected, "third"], full[:size]
        assert journal.path.read_bytes().startswith(full[:size])


def test_cut_lines_say_where_and_why(journal):
    journal.append("a", "keep")
    with open(journal.path, "a") as file:
        file.write("b,keep\n\nc,keep,,x,y,z,more\n,keep,,,,\nd,ke")
    assert [(cut.number, cut.text) for cut in journal.cut_lines()] == [
        (3, "b,keep"),
        (5, "c,keep,,x,y,z,more"),
        (6, ",keep,,,,"),
        (7, "d,ke"),
    ]
    assert "2 fields" in journal.cut_lines()[0].reason
    assert journal.read()["item"].tolist() == ["a"]


def test_a_spreadsheet_runs_nothing_of_a_journal_and_all_comes_back(journal):
    odd = ["=1+1", "-DSC_01.jpg", "@x", "'=1", "＝1", "a;=b"]
    for name in odd:
        journal.append(name, name, label=name, shown=name, reviewer=name)
    read = journal.read()
    for column in ("item", "decision", "label", "reviewer", "shown"):
        assert read[column].tolist() == odd
    assert list(journal.latest().index) == odd
    rows = list(csv.reader(journal.path.read_text("utf-8").splitlines()))[1:]
    assert [row[0] for row in rows] == ["'=1+1", "'-DSC_01.jpg", "'@x", "''=1", "'＝1", "a;'=b"]


def test_a_journal_from_before_texts_were_escaped_is_read_as_it_was(journal):
    journal.path.parent.mkdir()
    journal.path.write_text(HEADER + "-DSC_01.jpg,keep,=x,ann,2026-01-01T00:00:00+00:00,-\n")
    assert journal.read().iloc[0].tolist()[:4] == ["-DSC_01.jpg", "keep", "=x", "ann"]


def test_windows_line_ends_are_read(journal):
    journal.append("a", "keep")
    journal.path.write_bytes(journal.path.read_bytes().replace(b"\n", b"\r\n"))
    journal.append("b", "drop")
    assert journal.latest()["decision"].to_dict() == {"a": "keep", "b": "drop"}
    assert journal.cut_lines() == []


def _append_many(path, name, count):
    for number in range(count):
        Journal(path).append(f"{name}{number}", "keep", shown="x" * 500)


def test_processes_that_append_together_lose_nothing(journal):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_append_many, args=(journal.path, name, 40)) for name in "abc"
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sorted(journal.read()["item"]) == sorted(f"{n}{i}" for n in "abc" for i in range(40))
    assert journal.path.read_text().count(HEADER.strip()) == 1
    assert journal.cut_lines() == []


def test_killed_writer_leaves_a_journal_that_reads_and_grows(journal):
    script = (
        "import sys; from fgvc_utils.contest.journal import Journal\n"
        "for i in range(10**6): Journal(sys.argv[1]).append(str(i), 'keep'); print(i, flush=True)"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, journal.path], stdout=subprocess.PIPE, text=True
    )
    said = 0
    for said in range(20):
        assert writer.stdout.readline().strip() == str(said)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert len(journal.read()) > said
    journal.append("after", "drop")
    assert journal.latest().loc["after", "decision"] == "drop"


def test_line_is_synced_before_append_returns(journal, monkeypatch):
    journal.append("a", "keep")
    synced = []
    monkeypatch.setattr(
        journal_module.os, "fsync", lambda file: synced.append(journal.path.read_bytes())
    )
    journal.append("b", "keep")
    assert len(synced) == 1 and synced[0] == journal.path.read_bytes()


def test_full_disk_is_an_error_and_the_next_decision_finds_its_place(journal):
    """A limit on the file size stops the write in the middle of the line, as a full disk would."""
    journal.append("a", "keep")
    limit = journal.path.stat().st_size + 10
    run = with_room(limit, "append('second', 'drop')", journal.path)
    assert run.returncode == 1 and "OSError" in run.stderr and "01_noise.csv" in run.stderr
    assert journal.path.stat().st_size == limit
    assert journal.latest()["decision"].to_dict() == {"a": "keep"}
    assert [cut.number for cut in journal.cut_lines()] == [3]
    journal.append("third", "drop")
    assert journal.latest()["decision"].to_dict() == {"a": "keep", "third": "drop"}


def test_decision_that_may_not_be_on_the_disk_does_not_count(journal, monkeypatch):
    journal.append("a", "keep")

    def fails(_):
        raise OSError("the disk is gone")

    monkeypatch.setattr(journal_module.os, "fsync", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        journal.append("b", "keep")
    monkeypatch.undo()
    assert journal.read()["item"].tolist() == ["a"] and journal.cut_lines() == []


def test_append_tells_whether_others_have_decided_meanwhile(journal):
    first = journal.append_all([Decision("a", "keep")])
    assert first == (0, journal.size())
    journal.append("b", "drop", reviewer="bob")
    size = journal.size()
    assert journal.append_all([Decision("c", "keep")]) == (size, journal.size())
    assert journal.append_all([]) == (journal.size(), journal.size())


def test_time_is_now(journal):
    before = time.time()
    journal.append("a", "keep")
    written = datetime.fromisoformat(journal.read()["time"].iloc[0]).timestamp()
    assert int(before) <= written <= time.time()
