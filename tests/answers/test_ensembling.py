"""Means, votes and members against answers worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.answers import ensembling
from fgvc_utils.answers.ensembling import Lab, Part, best_first, mean_of, member_sets, top1, vote
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store, softmax
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job

CLASSES = ["x", "y", "z"]
IDS = [f"i{n}" for n in range(11)]


def say(folder: Path, logits: np.ndarray, ids: list[str] = IDS, classes: list[str] = CLASSES):
    """A model's folder whose predictions are these, kept backwards in two shards."""
    backwards, turned = ids[::-1], logits[::-1]
    cut = len(ids) // 2
    for shard, part in enumerate((slice(0, cut), slice(cut, None))):
        writer = ShardWriter(folder / "predictions", shard, backwards[part])
        writer.write("logits", 0, turned[part].astype(np.float16))
        writer.write("features", 0, turned[part].astype(np.float16) + 1)
        writer.close()
    finish_store(folder / "predictions", classes, 2)
    return folder


def trained_on(folder: Path, fitted: list[str], **changes) -> Path:
    """Give a folder the job and the rows of a model that was trained on some images."""
    rows = pd.DataFrame({"image_id": IDS, "file": "f", "target": "x", "label": ""})
    rows = rows.assign(fit=rows["image_id"].isin(fitted), validate=False, predict=True)
    job = Job(
        name=folder.name, folder=str(folder), rows=str(folder / "rows.parquet"), classes=CLASSES,
        fit="full", global_batch=1, micro_batch=1, **changes,
    )  # fmt: skip
    write_job(job, rows)
    return folder


@pytest.fixture
def drawn() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.normal(0, 3, (11, 3)).astype(np.float16) for name in "abc"}


@pytest.fixture
def lab(tmp_path: Path, drawn: dict[str, np.ndarray]) -> Lab:
    return Lab({name: say(tmp_path / name, logits) for name, logits in drawn.items()})


def test_best_first_and_member_sets():
    ranked = best_first({"b": 0.5, "c": 0.9, "a": 0.5})
    assert ranked == ["c", "a", "b"]
    assert member_sets(ranked, [15, 9, 2, 2, 1]) == [("c", "a", "b"), ("c", "a"), ("c",)]
    assert member_sets([], [3]) == []


def test_votes_come_before_the_mean_and_the_mean_breaks_ties():
    one = np.float32([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0]])
    two = np.float32([[0.4, 0.6, 0.0], [0.0, 0.3, 0.7]])
    three = np.float32([[0.4, 0.6, 0.0], [0.1, 0.8, 0.1]])
    mean = mean_of([one, two, three])
    np.testing.assert_allclose(mean[0], [1.7 / 3, 1.3 / 3, 0], rtol=1e-6)
    score = vote([one, two, three])
    np.testing.assert_allclose(score[0], [1 + 1.7 / 3, 2 + 1.3 / 3, 0], rtol=1e-6)
    assert mean[0].argmax() == 0 and score[0].argmax() == 1
    assert score[1].argmax() == 1, "one vote each: the mean decides"
    assert top1(score, np.array([1, 0])) == 0.5


def test_a_mean_of_equals_is_each_of_them_and_weights_weigh():
    one = np.float32([[0.75, 0.25]])
    two = np.float32([[0.25, 0.75]])
    assert np.array_equal(mean_of([one] * 4), one)
    assert np.array_equal(mean_of([one, one], [0.25, 0.75]), one)
    assert np.array_equal(mean_of([one, two], [0.25, 0.75]), np.float32([[0.375, 0.625]]))
    assert ensembling.admit({"a": 0.6, "b": 0.4}, ["c"]) == pytest.approx(
        {"a": 0.4, "b": 0.8 / 3, "c": 1 / 3}
    )


def test_the_lab_aligns_what_models_said(lab: Lab, drawn: dict[str, np.ndarray]):
    wanted = ["i7", "i0", "i10"]
    assert np.array_equal(lab.logits("b", wanted), drawn["b"][[7, 0, 10]])
    expected = softmax(drawn["b"][[7, 0, 10]].astype(np.float32))
    np.testing.assert_allclose(lab.probabilities("b", wanted), expected, rtol=1e-6)
    parts = list(lab.blocks(wanted, ["b", "a"], rows=2))
    assert [(where.start, where.stop) for where, _ in parts] == [(0, 2), (2, 3)]
    assert list(parts[0][1]) == ["b", "a"]
    together = np.concatenate([block["b"] for _, block in parts])
    np.testing.assert_allclose(together, expected, rtol=1e-6)


def test_a_strange_image_and_another_class_list_are_named(tmp_path: Path, lab: Lab):
    lab.check(IDS)
    with pytest.raises(KeyError, match="a/predictions holds nothing of image 'i99'"):
        lab.check([*IDS, "i99"])
    with pytest.raises(KeyError, match="image 'i99'"):
        next(lab.blocks(["i99"]))
    few = say(tmp_path / "few", np.zeros((11, 2)), classes=["x", "y"])
    with pytest.raises(ValueError, match="a/predictions and .*few/predictions differ .*'z'"):
        Lab({**lab.folders, "few": few})
    with pytest.raises(ValueError, match="at least one model"):
        Lab({})


def test_features_come_only_from_models_that_did_not_see_what_judges(tmp_path: Path, lab: Lab):
    judged = ["i8", "i9"]
    clean = trained_on(lab.folders["a"], IDS[:8])
    teacher = trained_on(lab.folders["b"], IDS[:9])
    student = trained_on(lab.folders["c"], IDS[:4], teachers=[str(teacher / "predictions")])
    assert ensembling.seen_images(clean, judged) == (0, 0)
    assert ensembling.seen_images(teacher, judged) == (1, 0)
    assert ensembling.seen_images(student, judged) == (0, 1)
    side_by_side = lab.features(["a", "c"], ["i3", "i1"], judged)
    expected = np.concatenate([lab.logits("a", ["i3", "i1"]), lab.logits("c", ["i3", "i1"])], 1)
    assert np.array_equal(side_by_side, expected + np.float16(1))
    with pytest.raises(ValueError, match="'b' was trained on 1 of the 2 held-out images"):
        lab.features(["a", "b"], IDS, judged)


def test_a_model_that_saw_the_held_out_images_is_found_out(lab: Lab):
    judged = ["i8", "i9"]
    for name, fitted in {"a": IDS[:8], "b": IDS, "c": IDS[9:]}.items():
        trained_on(lab.folders[name], fitted)
    saw = ensembling.who_saw(lab.folders, judged)
    assert saw["trained on"].to_dict() == {"a": 0, "b": 2, "c": 1}
    assert ensembling.choose_members(saw, []) == (["a"], [])
    assert ensembling.choose_members(saw, ["a", "c"]) == (["a"], ["c"])
    assert ensembling.choose_members(ensembling.who_saw(lab.folders, []), []) == (
        ["a", "b", "c"],
        [],
    )
    with pytest.raises(ValueError, match="names 'd', which is no member"):
        ensembling.choose_members(saw, ["d"])
    with pytest.raises(ValueError, match="all 2 models were trained on held-out images, 'b'"):
        ensembling.choose_members(saw.loc[["b", "c"]], [])


def test_without_held_out_images_every_name_is_known_and_nothing_is_judged(lab: Lab):
    ways = {"a": {"a": 1.0}, "b": {"b": 1.0}}
    judged = ensembling.judge(lab, [], [], ways, ["a", "b"])
    assert {"a", "b", "vote", "vote without a"} <= set(judged.hits) and judged.hits.empty
    assert np.isnan(ensembling.crossfitted_choice(judged.hits, ensembling.halves([])))


def test_scores_written_in_blocks_are_the_vote_of_all_at_once(
    tmp_path: Path, lab: Lab, drawn: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ensembling.Lab.blocks, "__defaults__", (None, 2))
    said = {name: softmax(logits.astype(np.float32)) for name, logits in drawn.items()}
    ways = {"all": ensembling.equal_weights("abc"), "best": {"b": 1.0}, "alone": {"c": 1.0}}
    other = {"best": {"a": 1.0}}
    parts = [Part(IDS[:7], ways, ["all", "best"]), Part(IDS[7:], other, ["best"])]
    store = ensembling.write_scores(lab, parts, tmp_path / "vote")
    assert store.image_ids.tolist() == IDS and store.classes == CLASSES
    expected = vote([mean_of([said[n] for n in "abc"]), said["b"]])[:7]
    np.testing.assert_allclose(store.read("scores", IDS[:7]), expected, rtol=1e-6)
    np.testing.assert_allclose(store.read("scores", IDS[7:]), vote([said["a"]])[7:], rtol=1e-6)
    assert store.read("scores").dtype == np.float32


def test_no_member_is_ever_read_as_a_whole(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ensembling.Lab.blocks, "__defaults__", (None, 3))
    read_rows, asked = Store.read_rows, []

    def counted(store: Store, kind: str, rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return read_rows(store, kind, rows)

    monkeypatch.setattr(Store, "read_rows", counted)
    ways = {"all": ensembling.equal_weights("abc"), "best": {"b": 1.0}}
    ensembling.judge(lab, IDS, ["x"] * 11, ways, ["all", "best"])
    ensembling.write_scores(lab, [Part(IDS, ways, ["all", "best"])], tmp_path / "vote")
    assert max(asked) == 3 and len(asked) == 2 * 3 * 4, "each member once a block, in each pass"


def test_one_model_alone_is_itself_in_every_way(tmp_path: Path, lab: Lab):
    labels = [CLASSES[n % 3] for n in range(11)]
    ways = {"a": {"a": 1.0}, "mean of 1": {"a": 1.0}, "twice": {"a": 1.0}}
    assert ensembling.voters(ways) == ["a"], "identical member sets count once"
    judged = ensembling.judge(lab, IDS, labels, ways, ["a"])
    probabilities = lab.probabilities("a", IDS)
    for name in ("a", "mean of 1", "vote"):
        assert np.array_equal(judged.answers[name], probabilities.argmax(axis=1))
    truth = np.arange(11) % 3
    np.testing.assert_allclose(judged.own["a"], probabilities[np.arange(11), truth], rtol=1e-6)
    assert judged.hits["vote"].mean() == top1(probabilities, truth)


def test_ways_are_identical_only_with_the_same_weights():
    ways = {"one": {"a": 0.5, "b": 0.5}, "two": {"b": 0.5, "a": 0.5}, "three": {"a": 1.0}}
    assert ensembling.voters(ways) == ["one", "three"]
    assert ensembling.voters(ways, lambda name: name == "three") == ["one"]


def test_the_vote_without_each_is_judged(tmp_path: Path):
    """Two images: a and b are right on the first, a alone is sure and right on the second."""
    sure, wrong = [[4, 0, 0], [4, 0, 0]], [[4, 0, 0], [0, 1, 0]]
    folders = {"a": say(tmp_path / "a", np.array(sure), IDS[:2])}
    folders["b"] = say(tmp_path / "b", np.array(wrong), IDS[:2])
    ways = {"a": {"a": 1.0}, "both": {"a": 0.5, "b": 0.5}, "b": {"b": 1.0}}
    judged = ensembling.judge(Lab(folders), IDS[:2], ["x", "x"], ways, list(ways))
    assert judged.hits["vote"].tolist() == [True, True]
    worth = ensembling.worth(judged.hits)
    assert worth["kind"].tolist() == ["member"] * 2 + ["voter"] * 3
    members = worth[worth["kind"] == "member"]
    assert members.loc["a", ["worth", "saved", "lost"]].tolist() == [0.5, 1, 0]
    assert members.loc["b", "worth"] == 0


def test_the_vote_without_a_member_is_that_of_the_sets_that_are_left(
    lab: Lab, drawn: dict[str, np.ndarray]
):
    ways = {"three": ensembling.equal_weights("abc"), "two": ensembling.equal_weights("ab")}
    judged = ensembling.judge(lab, IDS, ["x"] * 11, ways | {"c": {"c": 1.0}}, ["three", "two", "c"])
    said = {name: softmax(logits.astype(np.float32)) for name, logits in drawn.items()}
    # Without c the two means are one, and the third voter is silent.
    expected = vote([mean_of([said["a"], said["b"]])]).argmax(axis=1)
    assert judged.answers["vote without member c"].tolist() == expected.tolist()
    alone = ensembling.judge(lab, IDS, ["x"] * 11, {"a": {"a": 1.0}, "b": {"b": 1.0}}, ["a", "b"])
    assert set(alone.hits) == {"a", "b", "vote", "vote without a", "vote without b"}


def test_scores_have_intervals_and_errors_a_correlation():
    hits = pd.DataFrame(
        {"a": [True, True, False, False], "b": [False, False, True, True], "c": [True] * 4}
    )
    table = ensembling.score_table(hits)
    assert table.index.tolist() == ["c", "a", "b"] and (table["n"] == 4).all()
    assert table.loc["a", "top1"] == 0.5
    assert table.loc["a", "low"] == pytest.approx(0.15, abs=0.005)
    assert table.loc["a", "high"] == pytest.approx(0.85, abs=0.005)
    correlation = ensembling.error_correlation(hits)
    assert correlation.loc["a", "b"] == -1 and correlation.loc["a", "a"] == 1
    assert np.isnan(correlation.loc["a", "c"])
    assert ensembling.score_table(hits.iloc[:0])["top1"].isna().all()


def test_near_duplicates_are_in_one_half():
    groups = [f"g{n // 3}" for n in range(60)]
    half = ensembling.halves(groups)
    assert half.sum() == 30 and (np.ptp(half.reshape(20, 3).astype(int), axis=1) == 0).all()


def test_halves_hang_on_the_ids_alone():
    ids = [f"n{n}" for n in range(101)]
    half = dict(zip(ids, ensembling.halves(ids), strict=True))
    assert sum(half.values()) == 50
    assert dict(zip(ids[::-1], ensembling.halves(ids[::-1]), strict=True)) == half


def test_weights_are_the_minimum_of_a_convex_loss():
    random = np.random.default_rng(1)
    own = random.dirichlet([1, 1, 1, 1], 400)[:, :3]
    found = ensembling.fit_weights(own)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    best = np.log(own @ found).mean()
    for other in random.dirichlet([1, 1, 1], 200):
        assert np.log(own @ other).mean() <= best + 1e-6
    worse = np.column_stack([own[:, 0], own[:, 0] / 2])
    np.testing.assert_allclose(ensembling.fit_weights(worse), [1, 0], atol=1e-3)
    same = np.column_stack([own[:, 0]] * 4)
    np.testing.assert_allclose(ensembling.fit_weights(same), [0.25] * 4)
    with pytest.raises(ValueError, match="there is none"):
        ensembling.fit_weights(np.zeros((0, 2)))


def test_weights_are_fitted_on_the_chosen_images_only():
    own = pd.DataFrame({"a": [0.9, 0.9, 0.1, 0.1], "b": [0.1, 0.1, 0.9, 0.9], "c": [0.5] * 4})
    first = ensembling.weighted(["a", "b"], own, np.array([True, True, False, False]))
    assert first["a"] > 0.99 and list(first) == ["a", "b"]
    assert ensembling.weighted(["a", "b"], own, np.array([False, False, True, True]))["b"] > 0.99


def test_a_choice_is_judged_where_it_was_not_made():
    hits = pd.DataFrame({"a": [True, True, False, False], "b": [False, False, True, True]})
    half = np.array([True, True, False, False])
    assert ensembling.crossfitted_choice(hits, half) == 0, "each is best where it chose itself"
    assert ensembling.crossfitted_choice(hits, np.array([True, False, True, False])) == 0.5
    assert np.isnan(ensembling.crossfitted_choice(hits, np.ones(4, dtype=bool)))
