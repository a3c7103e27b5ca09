"""Classes under a cap, and the contest's file."""

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.submission import (
    assign_capped,
    cap_for,
    covering,
    submission_ids,
    write_submission,
)


def greedy(scores, cap):
    """All pairs by falling score, then image, then class."""
    images, classes = scores.shape
    pairs = [(-scores[i, c], i, c) for i in range(images) for c in range(classes)]
    room, out = [cap] * classes, [-1] * images
    for _, image, label in sorted(pairs):
        if out[image] < 0 and room[label]:
            out[image] = label
            room[label] -= 1
    return out


@pytest.mark.parametrize("seed", range(150))
def test_assign_capped_is_the_greedy_over_all_pairs(seed):
    random = np.random.default_rng(seed)
    images, classes = random.integers(1, 25), random.integers(1, 7)
    # Few distinct values, so that ties are common in half of the problems.
    scores = random.random((images, classes))
    scores = np.round(scores, 1) if seed % 2 else scores
    cap = -(-images // classes) + int(random.integers(0, 2))
    got = assign_capped(scores, cap)
    assert got.tolist() == greedy(scores, cap)
    assert np.bincount(got, minlength=classes).max() <= cap


def test_it_is_top_1_when_nothing_binds():
    scores = np.random.default_rng(0).random((40, 5))
    assert (assign_capped(scores, 40) == scores.argmax(axis=1)).all()


def test_cap_for():
    assert cap_for(20, 100_000, 5000, 1.25) == 25
    assert cap_for(0, 100, 8, 1.0) == 13
    with pytest.raises(ValueError, match="a cap of 2 on 3 classes covers 6 of 7 test images"):
        cap_for(2, 7, 3, 1.0)


def table(paths):
    ids = [f"id{n}" for n in range(len(paths))]
    frame = pd.DataFrame({"image_id": ids, "path": paths, "split": "test"})
    frame.loc[len(frame)] = ["train", "train/x/1.jpg", "train"]
    return frame


def test_submission_ids_and_their_clashes():
    test = table(["test/a.b.jpg", "test/c.png"])
    expected = {
        "path": ["test/a.b.jpg", "test/c.png"],
        "name": ["a.b.jpg", "c.png"],
        "stem": ["a.b", "c"],
        "image_id": ["id0", "id1"],
    }
    for column, names in expected.items():
        assert submission_ids(test, column).tolist() == names
    with pytest.raises(ValueError, match="image_column stem: two test images are called '1'"):
        submission_ids(table(["test/1.jpg", "test/1.png"]), "stem")
    with pytest.raises(ValueError, match="image_column name: .* '1.jpg'"):
        submission_ids(table(["test/x/1.jpg", "test/y/1.jpg"]), "name")


def test_the_file_has_the_contests_columns_and_text_labels(tmp_path):
    path = tmp_path / "submission.csv"
    names, labels = pd.Series(["007", "8"]), pd.Series(["0012", "7"])
    write_submission(names, labels, ["0012", "7"], ["image", "category"], path)
    assert path.read_text() == "image,category\n007,0012\n8,7\n"
    with pytest.raises(ValueError, match="class 'rose' is not one of the contest's"):
        write_submission(names, pd.Series(["7", "rose"]), ["0012", "7"], ["a", "b"], path)
    with pytest.raises(ValueError, match="2 test images but 1 classes"):
        write_submission(names, labels[:1], ["0012", "7"], ["a", "b"], path)
    assert path.read_text().startswith("image,category"), "the good file stays"


def test_the_cap_is_raised_where_emptied_classes_leave_too_little_room():
    assert covering(5, images=24, classes_left=4) == 6
    assert covering(5, images=24, classes_left=6) == 5
