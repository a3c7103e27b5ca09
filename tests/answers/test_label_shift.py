"""Priors from files and from scores, and draws that follow them."""

import numpy as np
import pytest
from shifted_scores import SHIFTED, classified

from fgvc_utils.answers import transport
from fgvc_utils.answers.label_shift import (
    among,
    belief,
    chance_distance,
    distance,
    draw,
    equal_prior,
    estimate_prior,
    implicit_prior,
    read_prior,
)

CLASSES = ["0012", "7", "NA"]


def written(folder, text):
    path = folder / "prior.csv"
    path.write_text(text)
    return path


def test_a_prior_of_shares_or_counts_in_any_order(tmp_path):
    shares = written(tmp_path, "class,share\nNA,0.5\n0012,0.25\n7,0.25\n")
    assert read_prior(shares, CLASSES).tolist() == [0.25, 0.25, 0.5]
    counts = written(tmp_path, "count,class,note\n30,7,x\n0,NA,\n10,0012,\n")
    assert read_prior(counts, CLASSES).tolist() == [0.25, 0.75, 0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class,share\n0012,1\n", "lacks class '7' .2 in all."),
        ("class,share\n0012,1\n7,0\nNA,0\nrose,0\n", "class 'rose' is not one of the contest's"),
        ("class,share\n0012,1\n7,0\nNA,0\nNA,0\n", "class 'NA' is in more than one row"),
        ("class,count\n0012,1\n7,many\nNA,2\n", "count 'many' of class '7' is not a number"),
        ("class,count\n0012,1\n7,\nNA,2\n", "count '' of class '7'"),
        ("class,count\n0012,1\n7,-3\nNA,2\n", "count '-3' of class '7'"),
        ("class,count\n0012,1\n7,inf\nNA,2\n", "count 'inf' of class '7'"),
        ("class,count\n0012,0\n7,0\nNA,0\n", "column count sums to 0"),
        ("class,share\n0012,3\n7,4\nNA,2\n", "column share sums to 9"),
        ("label,share\n0012,1\n", "it needs class, and either share or count"),
        ("class,n\n0012,1\n", "has the columns class, n"),
        ("class,share,count\n0012,1,1\n", "either share or count"),
    ],
)
def test_a_prior_that_is_off_is_refused_by_name(tmp_path, text, says):
    with pytest.raises(ValueError, match=f"prior .*prior.csv.*{says}"):
        read_prior(written(tmp_path, text), CLASSES)


def test_a_prior_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="prior .*gone.csv is not there"):
        read_prior(tmp_path / "gone.csv", CLASSES)


def test_shares_of_emptied_classes_fall_to_the_others():
    left = np.array([True, False, True])
    assert among(np.array([0.2, 0.5, 0.3]), left) == pytest.approx([0.4, 0.6])
    with pytest.raises(ValueError, match="none of the classes that are left"):
        among(np.array([0.0, 1.0, 0.0]), left)


def test_em_finds_the_prior_of_shifted_images(monkeypatch):
    monkeypatch.setattr(transport, "BLOCK", 999)
    scores, labels = classified(SHIFTED)
    found = estimate_prior(scores, equal_prior(5), tolerance=1e-6)
    assert np.abs(found.prior - SHIFTED).sum() < 0.03
    assert found.prior.sum() == pytest.approx(1) and found.change < 1e-6
    # The mean of the plain probabilities is much further off, which is what EM is for.
    assert np.abs(scores.mean(axis=0) - SHIFTED).sum() > 0.1
    # A multiple of the probabilities is as good, and images without a score are ignored.
    more = np.concatenate([3 * scores, np.zeros((500, 5), np.float32)])
    assert estimate_prior(more, equal_prior(5), tolerance=1e-6).prior == pytest.approx(
        found.prior, abs=1e-4
    )


def test_em_stays_where_nothing_has_shifted():
    scores, _ = classified(SHIFTED)
    source = scores.mean(axis=0).astype(np.float64)
    found = estimate_prior(scores, source)
    assert found.prior == pytest.approx(source, abs=1e-3) and found.steps == 1


def test_em_without_any_score_says_so():
    with pytest.raises(ValueError, match="no image has a score"):
        estimate_prior(np.zeros((3, 2), np.float32), equal_prior(2))


def test_the_prior_of_a_model_is_told_from_that_of_its_images():
    # Calibrated for equal classes, judged on a long tail: what the model stands for is equal.
    scores, labels = classified(SHIFTED, 4000, signal=1.5)
    assert distance(implicit_prior(scores, labels), equal_prior(5)) < 0.03
    # The same model with a prior put in, judged on the same images.
    other = np.array([0.1, 0.1, 0.2, 0.3, 0.3])
    assert distance(implicit_prior(scores * other.astype(np.float32), labels), other) < 0.03
    # A class without a held-out image keeps a share.
    padded = np.concatenate([scores, np.full((len(scores), 1), 1e-3, np.float32)], axis=1)
    assert (implicit_prior(padded, labels) > 0).all()


def test_an_estimate_follows_chance_the_more_the_fewer_the_images():
    scores, labels = classified(SHIFTED, 4000, signal=1.5)
    source, equal = implicit_prior(scores, labels), equal_prior(5)
    few, many = (chance_distance(scores, labels, equal, source, n, seed=0) for n in (40, 4000))
    assert many < 0.04 < few
    assert distance(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.5


def test_draws_follow_the_prior():
    labels = np.array([0, 0, 1, 1, 1, 2])
    rows = draw(labels, np.array([0.5, 0.25, 0.25]), 40, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [20, 10, 10]
    assert set(rows) == set(range(6))
    with pytest.raises(ValueError, match="class number 1 has a share but no image"):
        draw(np.array([0, 2]), np.ones(3), 9, np.random.default_rng(0))


def test_what_is_believed_of_the_test_set(tmp_path):
    left = np.array([True, False, True])
    bet = belief(CLASSES, left)
    assert bet.prior.tolist() == [0.5, 0.5] and "bet" in bet.text
    counted = belief(CLASSES, left, known_count=20)
    assert counted.prior.tolist() == [0.5, 0.5] and "20 images" in counted.text
    file = written(tmp_path, "class,count\n0012,1\n7,5\nNA,3\n")
    read = belief(CLASSES, left, file=file)
    assert read.prior.tolist() == [0.25, 0.75] and "prior.csv" in read.text


def test_chance_cannot_be_told_where_no_held_out_class_was_learnt():
    # Every class has one image: six are held out, and no network has learnt their classes.
    held, classes = 6, 30
    scores = np.zeros((held, classes), np.float32)
    scores[:, held:] = 1 / (classes - held)
    labels, equal = np.arange(held), equal_prior(classes)
    source = implicit_prior(scores, labels)
    assert np.isnan(chance_distance(scores, labels, equal, source, 100, seed=0))
    nothing = np.where(np.arange(classes) < held, 0, equal)
    assert np.isnan(chance_distance(scores, labels, nothing, source, 100, seed=0))
    scores[0, 0] = 0.5
    assert 0 <= chance_distance(scores, labels, equal, source, 100, seed=0) <= 1
