"""Whole classes that are one, two, another's or swapped: planted among clusters, and found."""

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.cleaning import classes
from fgvc_utils.cleaning.class_decisions import SPLIT, Decided
from fgvc_utils.cleaning.class_images import Seen, likely_pairs
from fgvc_utils.cleaning.telling import (
    CLOUD,
    MOST,
    cut_in_two,
    like_first,
    space_of,
    tell_apart,
)
from fgvc_utils.contest import tables

EACH, WIDTH = 40, 32
NAMES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]
SETTINGS = {"compared_classes": 3, "one_below": 0.8, "two_above": 0.82, "least_part": 0.25}


def clusters(shows, seed=0):
    """Features of images that show some subjects; subjects two by two are sisters."""
    random = np.random.default_rng(seed)
    kin = np.repeat(random.normal(size=(len(NAMES) // 2, WIDTH)) * 3, 2, axis=0)
    centres = kin + random.normal(size=kin.shape) * 1.5
    # What the pictures of all classes differ in, such as the background.
    scene = random.normal(size=(2, WIDTH)) * 2
    noise = random.normal(size=(len(shows), WIDTH)) + random.normal(size=(len(shows), 2)) @ scene
    return centres[[NAMES.index(name) for name in shows]] + noise


def made(given, shows=None, suggested=None, seed=0):
    """A label table and features of images that came under some names and show some subjects."""
    shows = given if shows is None else shows
    ids = [f"{number:04d}" for number in range(len(given))]
    listed = pd.DataFrame({"image_id": ids, "path": ids, "split": "train", "given": given})
    table = tables.new_table(listed.astype(object))
    table["suggested"] = "" if suggested is None else suggested
    return clusters(shows, seed), table


def everything():
    return [name for name in NAMES for _ in range(EACH)]


def look(features, table, **changes):
    return classes.find(features, table, classes.ClassParams(**{**SETTINGS, **changes}))


def named(found):
    return [(row.kind, *sorted(filter(None, (row.name, row.other)))) for row in found.itertuples()]


def confirm(table, rows, names):
    table.loc[rows, "label"] = names
    table.loc[rows, ["stage", "by", "cause"]] = ["03_fine", "human", "relabelled"]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_where_each_class_is_one_subject(seed):
    assert look(*made(everything(), seed=seed)).empty


def test_two_names_of_one_subject_are_one():
    given = ["bea" if name == "bee" and n % 2 else name for n, name in enumerate(everything())]
    found = look(*made([*given, *["bea"] * EACH, *["bee"] * EACH], everything() + ["bee"] * 80))
    assert named(found) == [("one", "bea", "bee")]
    row = found.iloc[0]
    assert (row["images"], row["other_images"], row["part"]) == (60, 60, [])
    assert row["low"] < 0.5 < row["high"] < 0.8 and "chance is 50%" in row["why"]


def test_what_the_label_stages_made_of_two_names_does_not_hide_that_they_are_one():
    """A network that cannot tell two names apart takes one of them for each image, by its looks."""
    given = ["bea" if name == "bee" and n % 2 else name for n, name in enumerate(everything())]
    given += ["bee", "bea"] * EACH
    features, table = made(given, everything() + ["bee"] * 80)
    both = table["given"].isin(["bea", "bee"]).to_numpy()
    right = features[:, 0] > np.median(features[both, 0])
    table["suggested"] = np.where(both, np.where(right, "bea", "bee"), given)
    table["label"] = table["suggested"]
    assert named(look(features, table)) == [("one", "bea", "bee")]


def test_classes_of_which_few_images_show_either_are_not_one():
    """Muddled classes cannot be told apart since neither shows anything."""
    random = np.random.default_rng(0)
    muddle = ["mess", "muddle"] * 60
    shows = everything() + random.choice(NAMES, len(muddle)).tolist()
    features, table = made(everything() + muddle, shows)
    assert not any(pair[0] == "one" for pair in named(look(features, table)))
    table["suggested"] = shows
    wrong = table["suggested"] != table["given"]
    assert look(features, tables.leave_out(table, wrong, "03_fine", "label")).empty


def test_one_name_of_two_subjects_is_two_and_the_smaller_part_is_named():
    shows = everything() + ["bee"] * 20
    features, table = made(["bee" if name == "fox" else name for name in shows], shows)
    found = look(features, table)
    assert named(found) == [("two", "bee")]
    row = found.iloc[0]
    part = [shows[int(image)] for image in row["part"]]
    assert part.count("fox") >= EACH - 2 and part.count("bee") <= 2
    assert row["share"] >= 0.82 and row["low"] > CLOUD and "two clusters" in row["why"]


def test_a_few_images_of_something_else_make_no_class_two():
    shows = everything() + ["fox"] * 8
    assert look(*made(everything() + ["bee"] * 8, shows)).empty


def test_a_part_that_shows_another_class_is_told_from_it_and_the_larger_one_makes_it_anothers():
    """Half as many images of its own as of the other class; and the other way round."""
    features, table = made(everything() + ["bee"] * 80, everything() + ["fox"] * 80)
    (row,) = look(features, table).itertuples()
    assert (row.kind, row.name, row.other) == ("another", "bee", "fox")
    assert len(row.part) >= 78 and "larger of its two parts" in row.why
    shows = everything() + ["fox"] * 36
    (row,) = look(*made(everything() + ["bee"] * 36, shows, seed=1)).itertuples()
    assert (row.kind, row.name, row.other) == ("two", "bee", "fox")
    assert 34 <= len(row.part) <= 38 and "is told from fox" in row.why


def test_most_images_of_a_class_are_anothers_by_what_the_label_stages_suggest():
    features, table = made(everything(), suggested=everything())
    bees = table.index[table["given"] == "bee"]
    table.loc[bees[:30], "suggested"] = "fox"
    table.loc[bees[:30], ["status", "stage", "by", "cause"]] = ["drop", "03_fine", "rule", "label"]
    (row,) = look(features, table).itertuples()
    assert (row.kind, row.name, row.other) == ("another", "bee", "fox")
    assert row.share == 0.75 and row.low > 0.5 and row.part == []


def test_all_names_of_two_classes_exchanged_are_seen_by_images_that_a_person_knows_alone():
    turned = {"bee": "fox", "fox": "bee"}
    features, table = made([turned.get(name, name) for name in everything()], everything())
    assert look(features, table).empty
    shows = pd.Series(everything(), table.index)
    for name in turned:
        confirm(table, shows.index[shows == name][:4], name)
    (row,) = look(features, table).itertuples()
    assert (row.kind, {row.name, row.other}) == ("swapped", {"bee", "fox"})
    assert row.share == 1 and row.low > 0.5 and "8 of 8" in row.why
    confirm(table, shows.index[shows == "fox"][:4], "bee")
    assert look(features, table).empty, "of one name nothing is known"


def test_names_exchanged_in_part_are_seen():
    turned = {"bee": "fox", "fox": "bee"}
    given = [turned.get(name, name) if n % 5 < 2 else name for n, name in enumerate(everything())]
    (row,) = look(*made(given, everything())).itertuples()
    assert (row.kind, {row.name, row.other}) == ("swapped", {"bee", "fox"})
    assert 0.3 < row.share < 0.5 and row.low > 0.2
    # The same by what the label stages suggest, also where features do not tell.
    features, table = made(given, ["bee" if name == "fox" else name for name in everything()])
    table["suggested"] = everything()
    assert ("swapped", "bee", "fox") in named(look(features, table, one_below=0.5))


def test_an_image_that_is_no_noise_is_none_whose_class_is_known():
    features, table = made(everything(), everything())
    confirm(table, table.index[:2], table["given"].head(2).to_numpy())
    table.loc[table.index[1], "cause"] = "normal"
    assert Seen.of(features, table).by_hand.nonzero()[0].tolist() == [0]


def test_where_nothing_is_compared_nothing_is_found():
    features, table = made(everything() + ["bea"] * 40, everything() + ["ant"] * 40)
    assert named(look(features, table)) == [("one", "ant", "bea")]
    assert look(features, table, compared_classes=0).columns.tolist() == classes.COLUMNS
    assert look(features[:1], table[:1]).empty and look(features[:0], table[:0]).empty
    out = tables.leave_out(table, table["given"] != "", "03_fine", "label")
    assert look(features, out).empty
    by_hand = tables.leave_out(table, table["given"] != "", "03_fine", "dropped", by="human")
    assert look(features, by_hand).empty


def test_the_part_that_a_split_takes_away_holds_the_image_that_was_decided_on():
    features, table = made(everything() + ["bee"] * 25, everything() + ["fox"] * 25)
    small, large = f"{len(table) - 1:04d}", table.index[table["given"] == "bee"][0]
    decided = [Decided(SPLIT, ("bee",), part=image) for image in ("", small, large, "gone")]
    few, rest = Decided(SPLIT, ("hen",)), Decided(SPLIT, ("bee",), part=small, rest=True)
    table.loc[table["given"] == "hen", "label"] = "gnu"
    parts = classes.parts(features, table, [*decided, few, rest, Decided("swap", ("ant", "bee"))])
    lost, with_small, with_large, unknown = (parts[each] for each in decided)
    assert lost == with_small == unknown and small in lost and large not in lost
    assert set(with_large) == set(table.index[table["label"] == "bee"]) - set(lost)
    assert parts[few] == [] and parts[rest] == with_large and len(parts) == 6


def test_copies_go_with_their_part_and_count_once():
    features, table = made(everything() + ["bee"] * 25, everything() + ["fox"] * 25)
    copies = table.index[-5:]
    table.loc[copies, "group"] = table.loc[copies[0], "group"]
    (row,) = look(features, table).itertuples()
    assert set(copies) <= set(row.part) and row.kind == "two"


# Figures


def test_sets_alike_are_told_apart_by_chance_and_others_surely():
    random = np.random.default_rng(0)
    shares = []
    for seed in range(30):
        side = np.arange(60) % 2 == 0
        alike = tell_apart(random.normal(size=(60, 20)), side, np.arange(60), seed)
        shares.append(alike.low <= 0.5 <= alike.high)
    assert np.mean(shares) >= 0.85
    apart = tell_apart(random.normal(size=(60, 20)) + side[:, None], side, np.arange(60))
    assert apart.low > 0.9 and apart.high == pytest.approx(1, abs=0.02)
    assert tell_apart(random.normal(size=(9, 3)), np.arange(9) < 4, np.arange(9)) is None


def test_copies_on_both_sides_are_held_out_together():
    """Else a classifier would know each image from the other side."""
    random = np.random.default_rng(0)
    one = random.normal(size=(40, 200))
    found = tell_apart(np.concatenate([one, one]), np.arange(80) < 40, np.tile(np.arange(40), 2))
    assert found.share == pytest.approx(0.5, abs=0.05)
    same = tell_apart(np.tile(one[:1], (50, 1)), np.arange(50) < 25, np.zeros(50))
    assert same is None


def test_of_large_sets_some_images_are_drawn():
    random = np.random.default_rng(0)
    side = np.arange(3000) < 2000
    found = tell_apart(random.normal(size=(3000, 4)) + 0.3 * side[:, None], side, np.arange(3000))
    assert found.high - found.low > 0.5 / MOST**0.5


def test_a_cut_through_one_cloud_takes_away_two_parts_in_pi_of_its_scatter():
    random = np.random.default_rng(0)
    cloud = random.normal(size=(400, 20))
    one = cut_in_two(cloud)
    assert one.low < CLOUD + 0.03 and one.clear < 0.7
    cloud[:120, 0] += 12
    two = cut_in_two(cloud)
    assert two.clear > 0.85 and two.low > 0.82 and 118 <= two.smaller.sum() <= 122


def test_a_few_images_far_away_do_not_make_the_cut():
    cloud = np.random.default_rng(0).normal(size=(100, 3))
    cloud[:3] += 500
    assert 0.3 < cut_in_two(cloud).smaller.mean() <= 0.5


def test_points_that_are_all_the_same_are_not_cut():
    assert cut_in_two(np.ones((20, 4))).clear == 0


def test_the_space_makes_the_scatter_within_the_other_classes_one():
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 100)
    scene = random.normal(size=(600, 1)) * random.normal(size=30) * 2
    features = random.normal(size=(600, 30)) + 4 * random.normal(size=(6, 30))[labels] + scene
    one = labels == 0
    there = space_of(features, labels).of(features[one], labels[one])
    usual = np.linalg.eigvalsh(np.cov(there.T))
    # By chance a hundred images scatter from 0.2 to 2.4 times as much in 30 directions.
    assert usual[0] > 0.05 and usual[-1] < 6
    features[one, 2] += 12 * (np.arange(100) % 2)
    there = space_of(features, labels).of(features[one], labels[one])
    assert np.linalg.eigvalsh(np.cov(there.T))[-1] > 3 * usual[-1]


def test_known_images_are_put_to_the_set_they_are_like_whatever_the_sizes():
    random = np.random.default_rng(0)
    first, fresh = np.arange(100) < 10, np.arange(20) < 10

    def drawn(which):
        return random.normal(size=(len(which), 5)) + 6 * np.eye(5)[which.astype(int)]

    assert (like_first(drawn(first), first, drawn(fresh)) == fresh).all()


def test_pairs_are_those_of_the_nearest_classes():
    centres = np.array([[0, 1], [0.1, 1], [1, 0], [1, 0.1], [-1, -1]], float)
    pairs = likely_pairs(centres, 1)
    assert {(0, 1), (2, 3)} <= set(pairs) and len(pairs) == 3
    assert len(likely_pairs(centres, 99)) == 10
    assert likely_pairs(centres, 0) == [] and likely_pairs(centres[:1], 3) == []


def test_classes_of_three_images_cost_nothing(monkeypatch):
    def never(*arguments):
        raise AssertionError("nothing can be said of so few images")

    monkeypatch.setattr(classes, "tell_apart", never)
    given = [f"c{number // 3}" for number in range(300)]
    _, table = made(given, ["ant"] * 300)
    features = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    assert classes.find(features, table, classes.ClassParams(**SETTINGS)).empty
