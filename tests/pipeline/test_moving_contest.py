"""A contest that moves after people have decided: images come and go, change, are named anew."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from PIL import Image, ImageOps
from tiny_contest import TINY_CONTEST, make_contest, run_pipeline

from fgvc_utils.cleaning import audit
from fgvc_utils.contest import tables
from fgvc_utils.contest.journal import Journal
from fgvc_utils.core.files import read_json
from fgvc_utils.jobs.records import read_job

pytestmark = [pytest.mark.slow, pytest.mark.long]

STAGES = ("01_noise", "02_coarse", "03_fine", "04_lowq", "40_submit")
SHARED = {name: value for name, value in TINY_CONTEST.items() if not name[:2].isdigit()}
CONTEST = SHARED | {stage: TINY_CONTEST[stage] for stage in STAGES}
CONTEST |= {
    "10_train": [{"name": "probe", "fit": "probe", "size": 96, "test_ratio": 1.15}],
    "30_ensemble": {"augmented_models": 0, "plain_models": 0},
}
NEW, ADDED = 50, "a new class"


def decided(journal: Journal, decisions: Mapping[str, str]) -> None:
    for item, decision in decisions.items():
        journal.append(item, decision, reviewer="ann")


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """The contest after a run, decisions, all moves at once, and another run."""
    folder = make_contest(tmp_path_factory.mktemp("moved"), CONTEST)
    first = run_pipeline(folder)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    run, data = folder / "outputs/tiny", folder / "data/tiny"
    listing = pd.read_csv(data / "train.csv", dtype=str).set_index("path")
    before = tables.read_table(run / "tables/03_fine.parquet")
    known = before[(before["split"] == "train") & before["path"].str.endswith(".jpg")]
    alone = known.loc[~known["group"].duplicated(keep=False) & (known["cause"] != "unreadable")]
    # In each decision the person says otherwise than the rule.
    out = alone.loc[alone["status"] == "drop", "image_id"].tolist()
    stays = alone.loc[alone["status"] == "keep", "image_id"].tolist()
    names = ("replaced", "rewritten", "renamed", "left", "relabelled", "same")
    image = dict(zip(names, out, strict=False)) | {"dropped": stays[0], "dropped_left": stays[1]}
    made = {image[name]: "keep" for name in names}
    made |= {image["dropped"]: "drop", image["dropped_left"]: "drop"}
    journal = Journal(run / "decisions/03_fine.csv")
    decided(journal, made)
    first_table = tables.read_table(run / "tables/01_noise.parquet")
    sample = audit.audit_sample(first_table[tables.kept(first_table)], 299, 0, [])["image_id"]
    audited = [i for i in sample if i not in made][:40]
    decided(Journal(run / "decisions/01_audit.csv"), dict.fromkeys(audited, "normal"))
    small = known["given"].iloc[-1]
    decided(Journal(run / "decisions/04_lowq.csv"), {small: "keep"})

    def picture(path: str) -> Image.Image:
        return ImageOps.exif_transpose(Image.open(data / path)).convert("RGB")

    sources = stays[10:]
    picture(sources[0]).rotate(90).save(data / image["replaced"], quality=92)
    picture(image["rewritten"]).save(data / image["rewritten"], quality=85)
    renamed = image["renamed"].replace(".jpg", " with another name.jpg")
    (data / image["renamed"]).rename(data / renamed)
    listing = listing.rename(index={image["renamed"]: renamed})
    for name in ("left", "dropped_left"):
        (data / image[name]).unlink()
        listing = listing.drop(image[name])
    was = listing.loc[image["relabelled"], "label"]
    listing.loc[image["relabelled"], "label"] = next(n for n in listing["label"] if n != was)
    (data / "train/new").mkdir()
    for number, source in enumerate(sources[1 : NEW + 1]):
        shown, label = picture(source).rotate(180), listing.loc[source, "label"]
        if number < 12:
            shown, label = ImageOps.invert(shown), ADDED
        shown.save(data / f"train/new/{number}.jpg", quality=92)
        listing.loc[f"train/new/{number}.jpg"] = label
    listing.rename_axis("path").reset_index().to_csv(data / "train.csv", index=False)
    gone = sorted(path.name for path in (data / "test").iterdir())[3]
    (data / "test" / gone).unlink()

    second = run_pipeline(folder)
    assert second.returncode == 0, second.stdout[-3000:] + second.stderr[-3000:]
    table = tables.read_table(run / "tables/03_fine.parquet").set_index("image_id")
    return SimpleNamespace(
        folder=folder, run=run, said=second.stdout + second.stderr, before=before, after=table,
        image=image, renamed=renamed, was=was, gone=f"test/{gone}", journal=journal, small=small,
        audited=audited,
    )  # fmt: skip


def printed(run: Path, stage: str) -> str:
    """What an executed notebook printed and showed as text."""
    cells = nbformat.read(run / f"{stage}.ipynb", as_version=4).cells
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    shown = [out.get("text", "") + out.get("data", {}).get("text/plain", "") for out in outputs]
    return "\n".join(shown)


def by_person(moved, name: str) -> list[str]:
    """Who decided on an image, and why it is as it is."""
    return moved.after.loc[name, ["status", "by", "cause"]].tolist()


def test_what_is_known_stays(moved):
    assert by_person(moved, moved.image["same"]) == ["keep", "human", "confirmed"]
    assert by_person(moved, moved.image["dropped"]) == ["drop", "human", "dropped"]
    last = tables.read_table(moved.run / "tables/04_lowq.parquet")
    of_class = last[(last["given"] == moved.small) & (last["split"] == "train")]
    assert "small_class" not in set(of_class["cause"]), "a person keeps the class"
    assert len(moved.journal.read()) == 8, "nothing is added to what people decided, or taken away"


def test_new_images_and_a_listing_that_grew_are_looked_at(moved):
    new = moved.after[moved.after["path"].str.startswith("train/new/")]
    assert len(new) == NEW and set(new["by"]) <= {"web", "rule"}
    judged = new[new["stage"] != "01_noise"]
    assert judged["score"].notna().all() and (judged["fold"] >= 0).all()
    assert f"since the last run {NEW} images came" in printed(moved.run, "01_noise")
    asked = int(printed(moved.run, "03_fine").split(" candidates are asked for")[0].split()[-3])
    seen = len([i for i in moved.journal.latest().index if i in moved.after.index])
    assert asked > seen, "some that nobody has seen are asked for"


def test_an_image_replaced_in_place_waits_for_a_new_look(moved):
    assert moved.after.loc[moved.image["replaced"], "by"] != "human"
    assert "1 decisions no longer count" in printed(moved.run, "03_fine")
    assert moved.image["replaced"] in printed(moved.run, "03_fine")
    # The same picture in another form is the one that was looked at.
    assert by_person(moved, moved.image["rewritten"]) == ["keep", "human", "confirmed"]


def test_a_decision_follows_a_file_that_has_another_name(moved):
    assert moved.image["renamed"] not in moved.after.index
    assert by_person(moved, moved.renamed) == ["keep", "human", "confirmed"]


def test_under_another_label_the_class_that_a_person_confirmed_holds(moved):
    name = moved.image["relabelled"]
    assert by_person(moved, name) == ["keep", "human", "relabelled"]
    assert moved.after.loc[name, "label"] == moved.was != moved.after.loc[name, "given"]


def test_a_class_that_was_added_is_learnt_and_can_be_answered(moved):
    assert ADDED in set(moved.after["given"])
    assert ADDED in read_job(moved.run / "models/probe/job.json").classes
    assert f"1 classes came: '{ADDED}'" in printed(moved.run, "01_noise")


def test_a_test_image_that_left_is_said_and_answered_as_the_sample_submission_asks(moved):
    assert "images went" in printed(moved.run, "01_noise")
    noticed = pd.read_csv(moved.run / "moves.csv", dtype=str)
    assert moved.gone in set(noticed.loc[noticed["what"] == "went", "image_id"])
    log = pd.read_csv(moved.run / "submissions.csv", dtype=str)
    answer = pd.read_csv(moved.run / log["file"].iloc[-1], dtype=str)
    # The contest's sample still lists it, and a file that lacks a line would be refused.
    assert moved.gone in set(answer["path"]) and len(answer) == 24
    assert read_json(moved.run / "report.json")["40_submit"]["missing_images"] == 1


def test_an_image_that_left_blocks_nobodys_decisions(moved):
    assert "3 went" in moved.said and "they stay in the journal and change nothing" in moved.said
    shown = printed(moved.run, "03_fine")
    assert "2 of 7 decisions change nothing; they stay in the journal" in shown
    for name in ("left", "dropped_left"):
        assert moved.image[name] in set(moved.journal.read()["item"]) - set(moved.after.index)


def test_the_audit_goes_on_where_it_was(moved):
    report = json.loads((moved.run / "report.json").read_text())["01_noise"]
    # The noise model may take one or two of them for noise by now.
    assert len(moved.audited) - 2 <= report["audit_looks"] <= len(moved.audited)


def test_nothing_is_noticed_twice(moved):
    before = (moved.run / "moves.csv").read_text()
    again = run_pipeline(moved.folder, "--only", "01_noise")
    assert again.returncode == 0
    assert (moved.run / "moves.csv").read_text() == before
    assert "nothing came, went or changed" in printed(moved.run, "01_noise")
