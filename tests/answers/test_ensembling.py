"""What members, ways and their vote answer, against answers worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.answers import ensembling
from fgvc_utils.answers.ensembling import MemberOutputs, Part, asked_images, judge
from fgvc_utils.answers.scoring import contributions, crossfitted_choice
from fgvc_utils.answers.ways import Way, mean_of, single, vote, voters
from fgvc_utils.contest.tables import leave_out, new_table
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store, softmax

CLASSES = ["x", "y", "z"]
IDS = [f"i{n}" for n in range(11)]
ALL = Way("all", dict.fromkeys("abc", 1 / 3))


def store_logits(
    folder: Path, logits: np.ndarray, ids: list[str] = IDS, classes: list[str] = CLASSES
):
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


@pytest.fixture
def drawn() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.normal(0, 3, (11, 3)).astype(np.float16) for name in "abc"}


@pytest.fixture
def stored(tmp_path: Path, drawn: dict[str, np.ndarray]) -> MemberOutputs:
    return MemberOutputs(
        {name: store_logits(tmp_path / name, logits) for name, logits in drawn.items()}
    )


def test_outputs_are_aligned_by_image_id(stored: MemberOutputs, drawn: dict[str, np.ndarray]):
    wanted = ["i7", "i0", "i10"]
    expected = softmax(drawn["b"][[7, 0, 10]].astype(np.float32))
    parts = list(stored.blocks(wanted, ["b", "a"], rows=2))
    assert [(where.start, where.stop) for where, _ in parts] == [(0, 2), (2, 3)]
    assert list(parts[0][1]) == ["b", "a"]
    together = np.concatenate([block["b"] for _, block in parts])
    np.testing.assert_allclose(together, expected, rtol=1e-6)


def test_images_are_asked_about_by_id_whatever_the_order_of_the_inventory():
    names = [*"abcde"]
    images = {"image_id": names, "path": names, "split": ["train"] * 3 + ["test"] * 2}
    table = new_table(pd.DataFrame(images | {"given": ["x", "x", "y", "", ""]}, dtype=object))
    table["fold"] = [0, 0, 1, -1, -1]
    inventory = pd.DataFrame({"image_id": [*"ebdac"], "cached": ["1", "2", "", "4", "5"]})
    asked = asked_images(table, inventory, 0)
    assert asked.judged == ["a", "b"] and asked.test == ["e"]
    assert asked.truth.to_dict() == {"a": "x", "b": "x"} and asked.group["b"] == "b"
    left = leave_out(table, table["image_id"] == "a", "04_lowq", "small_class")
    assert asked_images(left, inventory, 0).judged == ["b"]
    assert asked_images(left, inventory, -1).judged == []


def test_a_strange_image_and_another_class_list_are_named(tmp_path: Path, stored: MemberOutputs):
    stored.check(IDS)
    with pytest.raises(KeyError, match="a/predictions has no row of image 'i99'"):
        stored.check([*IDS, "i99"])
    with pytest.raises(KeyError, match="image 'i99'"):
        next(stored.blocks(["i99"]))
    few = store_logits(tmp_path / "few", np.zeros((11, 2)), classes=["x", "y"])
    with pytest.raises(ValueError, match="a/predictions and .*few/predictions differ .*'z'"):
        MemberOutputs({"a": tmp_path / "a", "few": few})
    with pytest.raises(ValueError, match="at least one model"):
        MemberOutputs({})


def test_without_held_out_images_every_name_is_known_and_nothing_is_judged(stored: MemberOutputs):
    judged = judge(stored, [], [], [single("a"), single("b")], ["a", "b"])
    assert list(judged.hits) == ["a", "b", "vote"] and judged.hits.empty
    assert list(judged.left_out) == [("voter", "a"), ("voter", "b")]
    assert judged.top1 == dict.fromkeys(judged.hits, 0.0)
    assert contributions(judged)["contribution"].tolist() == [0, 0]
    assert np.isnan(crossfitted_choice(judged.hits, np.array([], dtype=bool)))
    assert judge(stored, [], [], [single("a")]).left_out.shape == (0, 0)


def test_scores_written_in_blocks_are_the_vote_of_all_at_once(
    tmp_path: Path,
    stored: MemberOutputs,
    drawn: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(MemberOutputs.blocks, "__defaults__", (None, 2))
    softmaxes = {name: softmax(logits.astype(np.float32)) for name, logits in drawn.items()}
    best = Way("best", {"b": 1.0})
    parts = [
        Part(IDS[:7], [ALL, best, Way("alone", {"c": 1.0}, votes=False)]),
        Part(IDS[7:], [Way("all", {"c": 1.0}), Way("best", {"a": 1.0})]),
    ]
    store = ensembling.write_scores(stored, parts, voters(parts[0].ways), tmp_path / "vote")
    assert store.image_ids.tolist() == IDS and store.classes == CLASSES
    expected = vote([mean_of([softmaxes[n] for n in "abc"]), softmaxes["b"]])[:7]
    np.testing.assert_allclose(store.read("scores", IDS[:7]), expected, rtol=1e-6)
    expected = vote([softmaxes["c"], softmaxes["a"]])[7:]
    np.testing.assert_allclose(store.read("scores", IDS[7:]), expected, rtol=1e-6)
    assert store.read("scores").dtype == np.float32


def test_no_member_is_ever_read_as_a_whole(
    tmp_path: Path, stored: MemberOutputs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(MemberOutputs.blocks, "__defaults__", (None, 3))
    read_rows, asked = Store.read_rows, []

    def counted(store: Store, kind: str, rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return read_rows(store, kind, rows)

    monkeypatch.setattr(Store, "read_rows", counted)
    ways = [ALL, Way("best", {"b": 1.0})]
    judge(stored, IDS, ["x"] * 11, ways, ["all", "best"])
    ensembling.write_scores(stored, [Part(IDS, ways)], ["all", "best"], tmp_path / "vote")
    assert max(asked) == 3 and len(asked) == 2 * 3 * 4, "each member once a block, in each pass"


def test_one_model_alone_is_itself_in_every_way(
    stored: MemberOutputs, drawn: dict[str, np.ndarray]
):
    labels = [CLASSES[n % 3] for n in range(11)]
    ways = [single("a"), Way("mean of 1", {"a": 1.0}), Way("twice", {"a": 1.0})]
    assert voters(ways) == ["a"], "identical member sets count once"
    judged = judge(stored, IDS, labels, ways, ["a"])
    probabilities = softmax(drawn["a"].astype(np.float32))
    for name in ("a", "mean of 1", "vote"):
        assert np.array_equal(judged.answers[name], probabilities.argmax(axis=1))
    truth = np.arange(11) % 3
    np.testing.assert_allclose(judged.own["a"], probabilities[np.arange(11), truth], rtol=1e-6)
    assert judged.top1["vote"] == (probabilities.argmax(axis=1) == truth).mean()


def test_the_vote_without_each_is_judged(tmp_path: Path):
    """Two images: a and b are right on the first, a alone is sure and right on the second."""
    sure, wrong = [[4, 0, 0], [4, 0, 0]], [[4, 0, 0], [0, 1, 0]]
    folders = {"a": store_logits(tmp_path / "a", np.array(sure), IDS[:2])}
    folders["b"] = store_logits(tmp_path / "b", np.array(wrong), IDS[:2])
    ways = [single("a"), Way("both", {"a": 0.5, "b": 0.5}), single("b")]
    judged = judge(MemberOutputs(folders), IDS[:2], ["x", "x"], ways, voters(ways))
    assert judged.hits["vote"].tolist() == [True, True]
    found = contributions(judged)
    assert found["kind"].tolist() == ["member"] * 2 + ["voter"] * 3
    members = found[found["kind"] == "member"]
    assert members.loc["a", ["contribution", "saved", "lost"]].tolist() == [0.5, 1, 0]
    assert members.loc["b", "contribution"] == 0


def test_the_vote_without_a_member_is_that_of_the_sets_that_are_left(
    stored: MemberOutputs, drawn: dict[str, np.ndarray]
):
    ways = [ALL, Way("two", {"a": 0.5, "b": 0.5}), single("c")]
    judged = judge(stored, IDS, ["x"] * 11, ways, voters(ways))
    softmaxes = {name: softmax(logits.astype(np.float32)) for name, logits in drawn.items()}
    # Without c the two means are one, and the third voter has no vote.
    expected = vote([mean_of([softmaxes["a"], softmaxes["b"]])]).argmax(axis=1)
    assert judged.left_out["member", "c"].tolist() == expected.tolist()
    # Without a they differ: the mean of b and c, and b alone, and c.
    expected = vote(
        [mean_of([softmaxes["b"], softmaxes["c"]]), softmaxes["b"], softmaxes["c"]]
    ).argmax(axis=1)
    assert judged.left_out["member", "a"].tolist() == expected.tolist()
    alone = judge(stored, IDS, ["x"] * 11, [single("a"), single("b")], ["a", "b"])
    assert list(alone.hits) == ["a", "b", "vote"]
    assert list(alone.left_out) == [("voter", "a"), ("voter", "b")]


def test_a_model_may_be_called_like_a_vote_that_lacks_one(stored: MemberOutputs, tmp_path: Path):
    name = "vote without member b"
    odd = MemberOutputs({name: tmp_path / "a", "b": tmp_path / "b"})
    judged = judge(odd, IDS, ["x"] * 11, [single(name), single("b")], [name, "b"])
    assert sorted(contributions(judged).index) == ["b", name]


def test_parts_are_judged_each_by_its_own_ways_as_one(
    stored: MemberOutputs, drawn: dict[str, np.ndarray]
):
    truth = pd.Series(["x"] * 11, IDS)
    some = [Way("all", {"a": 1.0, "b": 0.0}), Way("other", {"c": 1.0})]
    others = [Way("all", {"a": 0.5, "b": 0.5}), Way("other", {"c": 1.0})]
    parts = [Part(IDS[6:], some), Part(IDS[:6], others)]
    judged = ensembling.judge_parts(stored, parts, truth, ["all", "other"])
    assert judged.answers.index.tolist() == [*IDS[6:], *IDS[:6]]
    assert judged.own["all"].iloc[0] == softmax(drawn["a"].astype(np.float32))[6, 0]
    # b has no weight in the first part, so what the vote is without a is known of one part alone.
    assert ("member", "a") not in judged.left_out and ("member", "b") in judged.left_out
    assert judged.left_out.notna().all(axis=None)
    assert contributions(judged).loc["b", "kind"] == "member"
