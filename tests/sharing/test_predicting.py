"""New photos: answered as the run answers its test images, and every file found has a line."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from small_run import CLASSES, TESTS, draw

from fgvc_utils import predict as command
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import read_job
from fgvc_utils.sharing.photos import find_photos
from fgvc_utils.sharing.predicting import predict_photos
from fgvc_utils.sharing.runs import find_run


def quiet(line):
    """Said to nobody."""


@pytest.fixture(scope="module")
def told(made):
    """The test folder, answered once."""
    run = find_run(made.folder, data_root=made.data_root)
    return predict_photos(run, run.root / "test", top=len(CLASSES), say=quiet)


def by_class(told):
    """Probabilities of the answers, (photos, classes)."""
    ends = ["", *(f"_{rank}" for rank in range(2, len(CLASSES) + 1))]
    rows = [
        {row[f"class{end}"]: row[f"probability{end}"] for end in ends}
        for row in told.to_dict("records")
    ]
    return pd.DataFrame(rows)[CLASSES].to_numpy()


def test_the_test_folder_is_answered_as_30_answered_it(told, made):
    stored = Store(made.folder / "ensemble" / "vote")
    ids = [f"test/{photo}" for photo in told["photo"]]
    scores = stored.read("scores", ids)
    assert len(told) == TESTS
    assert np.abs(by_class(told) - scores).max() < 1e-3
    assert told["class"].tolist() == [CLASSES[best] for best in scores.argmax(axis=1)]
    # Not by chance: the members say different things of different photos.
    assert scores.std(axis=0).max() > 0.05
    assert told["error"].eq("").all()


def test_noise_is_what_01_s_model_says(run, told, made):
    job = read_job(made.folder / "work" / "01_noise" / "round-1" / "job.json")
    store = Store(job.store)
    ids = [image for image in store.image_ids if image.endswith(".jpg")][:12]
    photos = [run.root / image for image in ids]
    seen = predict_photos(run, photos, top=1, model="probe", say=quiet)
    assert np.abs(seen["p_none"] - store.probabilities(ids)[:, 0]).max() < 5e-3
    assert (seen["shows_none"] == (seen["p_none"] > 0.9)).all()
    assert told["p_none"].between(0, 1).all()


def test_one_model_answers_by_its_refit(run, made):
    seen = predict_photos(run, run.root / "test", top=1, model="one", say=quiet)
    ids = [f"test/{photo}" for photo in seen["photo"]]
    refit = Store(made.folder / "models" / "one" / "refit" / "predictions").probabilities(ids)
    own = Store(made.folder / "models" / "one" / "predictions").probabilities(ids)
    assert np.abs(seen["probability"] - refit.max(axis=1)).max() < 1e-3
    assert np.abs(refit - own).max() > 5e-3


def test_the_views_of_the_ensemble_are_those_of_photos(run, made, told):
    file = made.folder / "ensemble" / "vote" / "answer.json"
    before = file.read_text()
    try:
        file.write_text(before.replace('"centre"', '"crops"'))
        cropped = predict_photos(run, run.root / "test", top=len(CLASSES), say=quiet)
    finally:
        file.write_text(before)
    assert np.abs(by_class(cropped) - by_class(told)).max() > 1e-3


def test_every_file_has_a_line(run, tmp_path):
    folder = tmp_path / "photos"
    deep = folder / "a" / "b"
    deep.mkdir(parents=True)
    draw(1, 1).save(deep / "same.jpg")
    draw(1, 1).save(deep / "no-ending", "PNG")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden").write_text("x")
    (folder / "Thumbs.db").write_text("x")
    os.symlink(deep / "same.jpg", folder / "link.jpg")
    os.symlink(deep, folder / "linked folder")
    with open(os.fsencode(folder) + b"/\xff.jpg", "wb") as file:
        file.write(b"x")
    seen = predict_photos(run, folder, top=2, model="probe", say=quiet).set_index("photo")
    good = {"a/b/same.jpg", "a/b/no-ending", "link.jpg"}
    assert set(seen.index[seen["class"] != ""]) == good
    assert (seen["error"] == "").equals(seen["class"] != "")
    assert seen.loc["link.jpg", "probability"] == seen.loc["a/b/same.jpg", "probability"]
    assert seen.loc["empty.jpg", "error"] == "empty file"
    assert "link to a folder" in seen.loc["linked folder/", "error"]
    assert "no image by its name" in seen.loc["notes.txt", "error"]
    assert len(seen) == 9 and not seen["shows_none"][seen["class"] == ""].any()


def test_a_file_that_is_named_is_read_whatever_it_is_called(tmp_path):
    for name in ("photo.txt", "b.jpg", "a.jpg"):
        draw(1, 1).save(tmp_path / name, "JPEG")
    named = [tmp_path / "b.jpg", tmp_path / "photo.txt", tmp_path, tmp_path / "b.jpg"]
    found = find_photos(named)
    assert found["place"].tolist() == [str(tmp_path / n) for n in ("b.jpg", "photo.txt", "a.jpg")]
    assert found["reason"].eq("").all()


def test_what_is_not_there_is_named(run, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    for photos, said in ((tmp_path / "gone", "gone is not there"), (tmp_path, "no photo there")):
        with pytest.raises(FileNotFoundError, match=said):
            predict_photos(run, photos, say=quiet)
    with pytest.raises(FileNotFoundError, match="no finished model 'none'"):
        predict_photos(run, run.root / "test", model="none", say=quiet)
    with pytest.raises(ParameterError, match="top 0"):
        predict_photos(run, run.root / "test", top=0, say=quiet)


def test_a_run_without_an_answer_says_what_to_do(run, made):
    file = made.folder / "ensemble" / "vote" / "answer.json"
    before = file.read_text()
    try:
        file.write_text(before[:40])
        with pytest.raises(ValueError, match="answer.json.*30_ensemble"):
            predict_photos(run, run.root / "test", say=quiet)
        file.unlink()
        with pytest.raises(FileNotFoundError, match="--only 30_ensemble"):
            predict_photos(run, run.root / "test", say=quiet)
    finally:
        file.write_text(before)


def test_the_command_writes_a_file_that_pandas_reads(run, made, tmp_path, capsys):
    draw(1, 1).save(tmp_path / "=1+1.jpg")
    out = tmp_path / "new" / "out.csv"
    named = [str(made.folder), str(tmp_path), "-o", str(out), "--top", "1", "--model", "probe"]
    assert command.main(named) == 0
    read = pd.read_csv(out, keep_default_na=False)
    assert read["photo"].tolist() == ["'=1+1.jpg"]
    assert list(read) == ["photo", "class", "probability", "p_none", "shows_none", "error"]
    assert command.main([*named[:2], "--top", "1", "--model", "probe"]) == 0
    shown = capsys.readouterr()
    assert "--allow-formulas" in shown.out and "1 answered" in shown.err


@pytest.mark.parametrize(
    "out, said",
    [("", "is a folder"), ("a.xlsx", "written as CSV"), ("a.csv/b.csv", "no folder that can")],
)
def test_a_file_that_cannot_be_written_is_refused_at_once(made, tmp_path, capsys, out, said):
    (tmp_path / "a.csv").write_text("x")
    asked = [str(made.folder), str(tmp_path), "-o", str(tmp_path / out)]
    assert command.main(asked) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert command.main([str(tmp_path), str(tmp_path)]) == 2
    assert "is no run" in capsys.readouterr().err
    assert command.main([str(tmp_path / "gone"), str(tmp_path)]) == 2
    assert "is no run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_script_without_a_guard_may_ask(made, tmp_path):
    script = tmp_path / "ask.py"
    script.write_text(
        textwrap.dedent(f"""
        from fgvc_utils.predict import predict

        print("begins")
        told = predict({str(made.folder)!r}, {str(made.data_root + "/test")!r}, model="probe")
        print(len(told), told["error"].eq("").all())
        """)
    )
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    assert done.stdout.count("begins") == 1, done.stderr
    assert done.stdout.splitlines()[-1] == f"{TESTS} True", done.stdout + done.stderr
