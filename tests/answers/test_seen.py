"""Which models were trained on the images that are to judge them."""

from pathlib import Path

import pandas as pd
import pytest

from fgvc_utils.answers import seen
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job

IDS = [f"i{n}" for n in range(11)]
JUDGED = ["i8", "i9"]


def trained_on(folder: Path, fitted: list[str], **changes) -> Path:
    """Give a folder the job and the rows of a model that was trained on some images."""
    rows = pd.DataFrame({"image_id": IDS, "file": "f", "target": "x", "label": ""})
    rows = rows.assign(fit=rows["image_id"].isin(fitted), validate=False, predict=True)
    job = Job(
        name=folder.name, folder=str(folder), rows=str(folder / "rows.parquet"),
        classes=["x", "y", "z"], fit="full", global_batch=1, micro_batch=1, **changes,
    )  # fmt: skip
    write_job(job, rows)
    return folder


def test_teachers_that_saw_an_image_are_told_from_a_model_that_did(tmp_path: Path):
    clean = trained_on(tmp_path / "a", IDS[:8])
    teacher = trained_on(tmp_path / "b", IDS[:9])
    student = trained_on(tmp_path / "c", IDS[:4], teachers=[str(teacher / "predictions")])
    assert seen.seen_images(clean, JUDGED) == (0, 0)
    assert seen.seen_images(teacher, JUDGED) == (1, 0)
    assert seen.seen_images(student, JUDGED) == (0, 1)
    seen.require_unseen({"a": clean, "c": student}, JUDGED)
    with pytest.raises(ValueError, match="'b' was trained on 1 of the 2 held-out images"):
        seen.require_unseen({"a": clean, "b": teacher}, JUDGED)


def test_a_model_that_saw_the_held_out_images_is_found_out(tmp_path: Path):
    seen_by = {"a": IDS[:8], "b": IDS, "c": IDS[9:]}
    folders = {name: trained_on(tmp_path / name, fitted) for name, fitted in seen_by.items()}
    saw = seen.who_saw(folders, JUDGED)
    assert saw["trained on"].to_dict() == {"a": 0, "b": 2, "c": 1}
    assert seen.choose_members(saw, []) == (["a"], [])
    assert seen.choose_members(saw, ["a", "c"]) == (["a"], ["c"])
    assert seen.choose_members(seen.who_saw(folders, []), []) == (["a", "b", "c"], [])
    with pytest.raises(ValueError, match="names 'd', which is no member"):
        seen.choose_members(saw, ["d"])
    with pytest.raises(ValueError, match="all 2 models were trained on held-out images, 'b'"):
        seen.choose_members(saw.loc[["b", "c"]], [])
