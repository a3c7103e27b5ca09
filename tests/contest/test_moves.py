"""What becomes of decisions where images come, go and change after people have decided."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fgvc_utils.cleaning import audit, rules
from fgvc_utils.cleaning.asking import review_order
from fgvc_utils.contest import copies, moves, noticing, tables
from fgvc_utils.contest.decision import with_part
from fgvc_utils.contest.inventory import inventory_path
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.moves import COLUMNS, Moves

EARLY, THEN, LATE, LATER = (f"2026-11-27T0{hour}:00:00+00:00" for hour in (1, 2, 3, 4))


def picture(seed: int) -> Image.Image:
    """A drawn picture whose hashes are its own."""
    drawn = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(drawn).resize((64, 64), Image.Resampling.BICUBIC)


def images(**shown: tuple[int, str]) -> pd.DataFrame:
    """Images as 01 reads them: id → the seed of its picture and its label, test where it is empty.

    A seed and a half is the picture in another form; below 0 the file is not there.
    """
    rows = []
    for name, (seed, label) in shown.items():
        there = seed >= 0
        row = {"image_id": name, "path": f"{name}.jpg", "given": label}
        row |= {"split": "train" if label else "test", "digest": f"{seed:.1f}" if there else ""}
        looks = copies.hashes(picture(int(seed))) if there else dict.fromkeys(LOOKS, "")
        rows.append(row | looks)
    return pd.DataFrame(rows)


LOOKS = ("look", "look_mirrored", "colours")


def compared(before: pd.DataFrame, now: pd.DataFrame) -> set[tuple[str, ...]]:
    """What, image, before and now of each finding."""
    found = noticing.compared(before, now, 8)
    return {(what, image, *rest) for what, image, _, *rest in found}


def kinds(before: pd.DataFrame, now: pd.DataFrame) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for what, image, old, new in compared(before, now):
        found.setdefault(what, set()).add(image or new or old)
    return found


def test_what_came_went_and_changed_is_told_apart():
    before = images(a=(1, "x"), b=(2, "x"), c=(3, "y"), d=(4, "y"), t=(5, ""), u=(6, ""))
    now = images(
        a=(1, "x"), b=(20, "x"), c=(3.5, "y"), d=(4, "x"), e=(7, "y"), f=(8, "z"), u=(6, "")
    )
    assert kinds(before, now) == {
        "replaced": {"b"},
        "rewritten": {"c"},
        "relabelled": {"d"},
        "came": {"e", "f"},
        "went": {"t"},
        "class came": {"z"},
    }
    assert kinds(before, before) == {}


def test_a_picture_with_another_id_is_renamed_and_two_that_swap_names_too():
    before = images(a=(1, "x"), b=(2, "y"), c=(3, "y"))
    assert compared(before, images(n=(1, "x"), b=(2, "y"), c=(3, "y"))) == {
        ("renamed", "n", "a", "n")
    }
    swapped = compared(before, images(a=(2, "x"), b=(1, "y"), c=(3, "y")))
    assert {each[:2] for each in swapped} == {
        ("renamed", "a"), ("renamed", "b"), ("relabelled", "a"), ("relabelled", "b")
    }  # fmt: skip
    # Of two files with one content nobody can say which is which.
    twice = images(a=(1, "x"), b=(1, "y"), c=(3, "y"))
    assert set(kinds(twice, images(n=(1, "x"), m=(1, "y"), c=(3, "y")))) == {"came", "went"}
    # A test image is no train image under another name.
    assert set(kinds(before, images(a=(1, "x"), b=(2, "y"), t=(3, "")))) >= {"came", "went"}


def test_a_folder_that_was_renamed_is_a_class_with_another_name():
    before = images(a1=(1, "rose"), a2=(2, "rose"), b=(3, "lily"))
    now = images(n1=(1, "roses"), n2=(2, "roses"), b=(3, "lily"))
    found = kinds(before, now)
    assert found["renamed"] == {"n1", "n2"} and found["class renamed"] == {"roses"}
    assert not {"class came", "class went"} & set(found)
    # Where its images come under two names it went.
    apart = kinds(before, images(n1=(1, "roses"), n2=(2, "dog"), b=(3, "lily")))
    assert apart["class came"] == {"roses", "dog"} and apart["class went"] == {"rose"}


def test_a_file_that_is_not_there_went_and_comes_back():
    here, gone = images(a=(1, "x"), b=(2, "y")), images(a=(-1, "x"), b=(2, "y"))
    assert kinds(here, gone) == {"went": {"a"}} and kinds(gone, here) == {"came": {"a"}}


@pytest.fixture
def run(tmp_path):
    """A run with a journal; `noticed` writes what became of its images."""

    class Run:
        journal = Journal(tmp_path / "decisions" / "03_fine.csv")

        def decide(self, time, item, decision, label="", who="ann", shown=""):
            self.journal.append(item, decision, label, shown, reviewer=who)
            text = self.journal.path.read_text().splitlines()
            fields = text[-1].split(",")
            fields[4] = time
            self.journal.path.write_text("\n".join([*text[:-1], ",".join(fields)]) + "\n")

        def noticed(self, *rows):
            frame = pd.DataFrame(
                [(time, what, image, "", old, new) for time, what, image, old, new in rows],
                columns=COLUMNS,
            )
            frame.to_csv(tmp_path / moves.FILE, index=False)
            moves._read_moves.cache_clear()

        @property
        def counts(self):
            latest = self.journal.latest()
            return {i: (row["decision"], row["label"]) for i, row in latest.iterrows()}

    return Run()


def test_a_decision_on_a_picture_that_was_replaced_waits_for_a_new_look(run):
    run.decide(EARLY, "a", "keep")
    run.decide(EARLY, "b", "drop")
    run.decide(EARLY, "a1", "keep", shown="↳ copy of a")
    run.noticed((THEN, "replaced", "a", "1", "2"))
    # The copy shows what was looked at.
    assert run.counts == {"b": ("drop", ""), "a1": ("keep", "")}
    assert run.journal.outdated()["why"].to_dict() == {"a": moves.OTHER_PICTURE}
    assert len(run.journal.read()) == 3, "nothing is lost"
    run.decide(LATE, "a", "drop")
    assert run.counts["a"] == ("drop", "") and run.journal.outdated().empty
    assert run.counts["a1"] == ("keep", ""), "the new look is at another picture"
    run.noticed((THEN, "replaced", "a", "1", "2"), (LATER, "replaced", "a", "2", "3"))
    assert "a" not in run.counts


def test_a_decision_counts_again_where_its_picture_comes_back(run):
    run.decide(EARLY, "a", "keep")
    broken, mended = (THEN, "replaced", "a", "1", "2"), (LATE, "replaced", "a", "2", "1")
    run.noticed(broken, mended)
    assert run.counts == {"a": ("keep", "")} and run.journal.outdated().empty
    run.noticed(broken, mended, (LATER, "renamed", "n", "a", "n"))
    assert run.counts == {"n": ("keep", "")}
    run.noticed(broken, mended, (LATER, "replaced", "a", "1", "3"))
    assert run.counts == {}


def test_an_image_that_left_counts_again_unless_another_comes_under_its_name(run):
    run.decide(EARLY, "a", "keep")
    run.noticed((THEN, "went", "a", "1", ""), (LATE, "came", "a", "", "1"))
    assert run.counts == {"a": ("keep", "")}
    run.noticed((THEN, "went", "a", "1", ""), (LATE, "came", "a", "", "2"))
    assert run.counts == {}
    assert run.journal.outdated()["why"].to_dict() == {"a": moves.OTHER_PICTURE}
    run.decide(LATER, "a", "drop")
    assert run.counts == {"a": ("drop", "")}


def test_a_decision_follows_its_picture_to_another_id(run):
    run.decide(EARLY, "a", "relabel", "lily")
    run.decide(EARLY, "a1", "relabel", "lily", shown="↳ copy of a")
    run.noticed((THEN, "renamed", "n", "a", "n"))
    assert run.counts == {"n": ("relabel", "lily"), "a1": ("relabel", "lily")}
    run.noticed((THEN, "renamed", "n", "a", "n"), (LATE, "renamed", "m", "n", "m"))
    assert set(run.counts) == {"m", "a1"} and run.journal.outdated().empty
    # Another image that took the name later is another one.
    run.decide(LATER, "a", "drop")
    assert run.counts == {
        "m": ("relabel", "lily"), "a1": ("relabel", "lily"), "a": ("drop", "")
    }  # fmt: skip


def test_pictures_that_swap_their_names_swap_their_decisions(run):
    run.decide(EARLY, "a", "keep")
    run.decide(EARLY, "b", "drop")
    run.noticed((THEN, "renamed", "b", "a", "b"), (THEN, "renamed", "a", "b", "a"))
    assert run.counts == {"b": ("keep", ""), "a": ("drop", "")}


def test_under_another_label_a_decision_means_what_it_meant_of_the_picture(run):
    for item, what, label in (
        ("kept", "keep", ""), ("put", "relabel", "lily"), ("out", "drop", ""), ("bad", "noise", ""),
    ):  # fmt: skip
        run.decide(EARLY, item, what, label)
    run.noticed(
        *((THEN, "relabelled", item, "rose", "lily") for item in ("kept", "put", "out", "bad"))
    )
    assert run.counts == {
        "kept": ("relabel", "rose"), "put": ("keep", ""), "bad": ("noise", "")
    }  # fmt: skip
    assert run.journal.outdated()["why"].to_dict() == {"out": moves.OTHER_LABEL}
    run.decide(LATE, "kept", "keep")
    assert run.counts["kept"] == ("keep", ""), "that is of the label it has now"
    # Back again, all is as it was.
    back = [(LATE, "relabelled", item, "lily", "rose") for item in ("put", "out")]
    run.noticed(*((THEN, "relabelled", item, "rose", "lily") for item in ("put", "out")), *back)
    assert run.counts["put"] == ("relabel", "lily") and run.counts["out"] == ("drop", "")


def test_a_class_with_another_name_keeps_its_decisions(run):
    run.decide(EARLY, "a", "keep")
    run.decide(EARLY, "b", "relabel", "rose")
    run.noticed(
        (THEN, "renamed", "n", "a", "n"),
        (THEN, "relabelled", "n", "rose", "roses"),
        (THEN, "class renamed", "", "rose", "roses"),
    )
    assert run.counts == {"n": ("keep", ""), "b": ("relabel", "roses")}


def test_decisions_on_classes_are_about_classes_whatever_images_are_called(run, tmp_path):
    events = [
        (THEN, "replaced", "12", "1", "2"),
        (THEN, "replaced", "a1", "1", "2"),
        (THEN, "renamed", "n2", "a2", "n2"),
        (THEN, "class renamed", "", "rose", "roses"),
    ]
    run.journal = Journal(tmp_path / "decisions" / "04_lowq.csv")
    run.decide(EARLY, "12", "drop")
    run.decide(EARLY, "rose", "keep")
    run.noticed(*events)
    assert run.counts == {"12": ("drop", ""), "roses": ("keep", "")}
    assert run.journal.outdated().empty
    run.journal = Journal(tmp_path / "decisions" / "04_classes.csv")
    run.journal.append('["pair", "rose", "lily"]', "merge", reviewer="ann")
    shown = with_part("two: rose", ["a1", "a2", "a3"])
    run.journal.append('["part", "rose", "a1"]', "relabel", "rose", shown, reviewer="ann")
    lines = run.journal.path.read_text().splitlines()
    stamped = [re.sub(r"2\d{3}-[-\dT:+]*", EARLY, line) for line in lines]
    run.journal.path.write_text("\n".join(stamped) + "\n")
    assert run.counts == {
        '["pair", "roses", "lily"]': ("merge", ""),
        # The image that stood for the part shows another picture, and the next one was renamed.
        '["part", "roses", "n2"]': ("relabel", "roses"),
    }


def test_the_journals_on_classes_are_those_of_the_stages():
    from fgvc_utils.pipeline.stages import STAGES

    named = [n for s in STAGES.values() if s.decides_on == "classes" for n in s.journals]
    assert tuple(named) == moves.CLASS_JOURNALS


def test_an_undo_takes_back_what_was_decided_on_the_same_picture(run):
    run.decide(EARLY, "a", "keep")
    run.noticed((THEN, "replaced", "a", "1", "2"))
    run.decide(LATE, "a", "drop")
    run.decide(LATE, "a", "undo")
    assert run.counts == {}


def test_reviewers_who_differ_on_an_earlier_picture_dispute_nothing_now(run):
    run.decide(EARLY, "a", "keep", who="ann")
    run.decide(EARLY, "a", "drop", who="bob")
    assert len(run.journal.disagreements()) == 2
    run.noticed((THEN, "replaced", "a", "1", "2"))
    assert run.journal.disagreements().empty and run.journal.votes() == {}


class Noted:
    """01 again and again in one folder."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "tables").mkdir()

    def table_path(self, stage):
        return self.folder / "tables" / f"{stage}.parquet"

    def see(self, frame):
        inventory = frame[["image_id", "path", "digest", *LOOKS]]
        found = noticing.note(self, frame[["image_id", "path", "split", "given"]], inventory, 8)
        return noticing.told(found), inventory

    def finish(self, frame, inventory):
        inventory.to_parquet(inventory_path(self))
        tables.write_table(
            tables.new_table(frame[["image_id", "path", "split", "given"]].astype(object)),
            self.table_path("01_noise"),
        )

    @property
    def kept(self):
        return moves.rows_of(self.folder / moves.FILE)[["what", "image_id"]].values.tolist()


def test_01_keeps_what_it_noticed_once_also_where_it_was_cut_off(tmp_path):
    noted = Noted(tmp_path)
    first, second = images(a=(1, "x"), b=(2, "y")), images(a=(9, "x"), c=(3, "y"))
    said, inventory = noted.see(first)
    assert said == [] and noted.kept == []
    noted.finish(first, inventory)
    assert noted.see(first)[0] == []
    said, inventory = noted.see(second)
    assert said[:3] == [
        "since the last run 1 images came: 'c'",
        "since the last run 1 images went: 'b'",
        "since the last run 1 files hold another picture; decisions on them no longer count: 'a'",
    ]
    three = [["replaced", "a"], ["came", "c"], ["went", "b"]]
    assert noted.kept == three
    # Cut off here, it finds the same again.
    noted.see(second)
    assert noted.kept == three
    noted.finish(second, inventory)
    _, inventory = noted.see(first)
    noted.finish(first, inventory)
    noted.see(second)
    assert noted.kept == [*three, ["replaced", "a"], ["came", "b"], ["went", "c"], *three]
    assert moves.of_run(tmp_path).new == ["a", "c", "b"]


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_text("no")])
def test_a_run_that_was_cut_off_before_its_table_is_gone_on_with(tmp_path, spoil):
    noted = Noted(tmp_path)
    first = images(a=(1, "x"), b=(2, "y"))
    noted.finish(first, noted.see(first)[1])
    spoil(noted.table_path("01_noise"))
    assert noted.see(first)[0] == [] and noted.kept == []
    assert len(noted.see(images(a=(1, "x")))[0]) == 1
    assert noted.kept == [["went", "b"]]
    spoil(inventory_path(noted))
    assert noted.see(images(c=(3, "x")))[0] == []


def test_names_that_a_spreadsheet_would_run_come_back_as_they_are(tmp_path):
    noted = Noted(tmp_path)
    first = images(a=(1, "x"), b=(2, "y"))
    noted.finish(first, noted.see(first)[1])
    noted.see(images(**{"=1+1": (1, "x"), "b": (2, "y")}))
    assert noted.kept == [["renamed", "=1+1"]]
    assert moves.of_run(tmp_path).known_as("a", EARLY) == "=1+1"


def test_another_file_in_its_place_is_named(tmp_path):
    (tmp_path / moves.FILE).write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="moves.csv: its first line must be time,what"):
        moves.of_run(tmp_path)
    assert not Moves() and Moves().known_as("a", EARLY) == "a"


def test_new_images_are_asked_for_however_many_were_decided_on():
    verdict = pd.DataFrame(
        {"verdict": "drop", "own": 0.4, "sure": 0.5, "none": 0.1, "best": 0},
        index=[f"old{n}" for n in range(20)] + [f"new{n}" for n in range(10)],
    )
    seen = [f"old{n}" for n in range(10)]
    new = [f"new{n}" for n in range(10)]
    assert review_order(verdict, seen, 0.1)[1] == 10, "as many as were seen"
    order, wanted = review_order(verdict, seen, 0.1, new)
    assert wanted == 11 and order[:10] == seen and order[10] in new
    assert sorted(order) == sorted(verdict.index)
    # Where nobody has decided, all are new.
    assert review_order(verdict, [], 0.1, new) == review_order(verdict, [], 0.1)


def test_an_audit_stays_where_images_come_and_go():
    ids = [f"{n:04d}" for n in range(600)]
    stays = pd.DataFrame({"image_id": ids}, index=ids)
    sample = audit.audit_sample(stays, 100, 0, [])
    assert len(set(sample["image_id"])) == 100
    looked = sample["image_id"].tolist()
    more = pd.concat([stays[50:], pd.DataFrame({"image_id": [f"new{n}" for n in range(100)]})])
    again = audit.audit_sample(more.set_index("image_id", drop=False), 100, 0, looked)
    still = set(looked) & set(more["image_id"])
    assert len(still & set(again["image_id"])) > 0.8 * len(still)
    assert again["image_id"].str.startswith("new").sum() > 5
    # An audit that was drawn by rows is gone on with.
    drawn = stays.sample(100, random_state=0)
    kept = audit.audit_sample(stays, 100, 0, drawn["image_id"].tolist())
    assert kept["image_id"].tolist() == drawn["image_id"].tolist()
    assert len(audit.audit_sample(stays[:5], 100, 0, [])) == 5


def test_what_no_longer_counts_is_told_beside_what_changes_nothing(run, capsys):
    run.decide(EARLY, "a", "keep")
    run.decide(EARLY, "gone", "keep")
    run.noticed((THEN, "replaced", "a", "1", "2"))
    listed = images(a=(2, "x"), b=(3, "y"))[["image_id", "path", "split", "given"]]
    table = tables.new_table(listed.astype(object))
    decided = run.journal.latest()
    unused, outdated = rules.told_unused(table, decided, run.journal.outdated())
    assert list(unused.index) == ["gone"] and list(outdated.index) == ["a"]
    assert "1 decisions no longer count" in capsys.readouterr().out
    after = rules.apply_decisions(table, decided, "03_fine")
    assert set(after["by"]) == {"web"}, "neither blocks the stage nor decides on another picture"
