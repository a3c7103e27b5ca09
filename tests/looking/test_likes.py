"""Like cases: found by their features, offered in order, decided alike but for what is unticked."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.jobs.predictions import ShardWriter, finish_store
from fgvc_utils.looking import candidates as candidates_module
from fgvc_utils.looking.gallery import Gallery
from fgvc_utils.looking.likes import Likes, likes_of

CHOICES = {"k": "keep", "d": "drop"}
# Degrees from the first image: 0003 is the nearest, then 0002, 0004, 0001, 0006; 0005 has none.
ANGLES = {"0000": 0, "0001": 50, "0002": 20, "0003": 10, "0004": -30, "0006": 80}


@pytest.fixture
def job(tmp_path):
    """A finished feature job of a network with two outputs."""
    store = tmp_path / "store"
    writer = ShardWriter(store, 0, list(ANGLES))
    turns = np.radians(list(ANGLES.values()))
    lengths = np.arange(1, 7)[:, None]
    features = lengths * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    writer.write("features", 0, features.astype(np.float16))
    writer.close()
    finish_store(store, ["x"], 1)
    return SimpleNamespace(store=store)


@pytest.fixture
def alike(candidates):
    """The seven photos; the last one is of another kind."""
    candidates["suggestions"] = [[("0012", 0.6), ("0007", 0.3)]] * 7
    return candidates.drop(columns="suggested").assign(kind=["one"] * 6 + ["other"])


class Page:
    """What the browser would send to a gallery, and what it gets."""

    def __init__(self, gallery, monkeypatch):
        self.grid, self.got = gallery.grid, []
        send = lambda _, content, buffers=None: self.got.append(content)  # noqa: E731
        monkeypatch.setattr(type(self.grid), "send", send)

    def send(self, **message):
        now = self.grid.now
        defaults = {"id": "me/1", "ask": "me/1", "view": now["view"], "cursor": now["cursor"]}
        self.grid._handle_custom_msg({**defaults, **message}, [])
        return self.grid.now["error"]

    def offered(self):
        self.send(type="likes", offer=self.grid.now["offer"]["id"])
        return [tile["item"] for tile in self.got[-1]["tiles"]]

    def take(self, *items):
        return self.send(type="alike", offer=self.grid.now["offer"]["id"], items=list(items))


@pytest.fixture
def page(alike, journal, job, monkeypatch):
    made = Gallery(alike, journal, CHOICES, title="x", reviewer="ann", likes=Likes(job, 3))
    return Page(made, monkeypatch)


def test_the_nearest_come_first_whatever_their_length(job):
    likes = Likes(job, 3)
    assert likes.nearest("0000", list(ANGLES)[1:]) == ["0003", "0002", "0004"]
    assert likes.nearest("0000", ["0006", "0005", "0001"]) == ["0001", "0006"]
    assert likes.nearest("0005", ["0001"]) == [] and likes.nearest("0000", []) == []


def test_no_features_or_none_asked_is_no_like_case(job):
    assert likes_of([], 6) is None and likes_of([(job, None)], 0) is None
    assert likes_of([(job, None)], 2).count == 2


def test_like_cases_are_offered_in_order_and_decided_alike(page, journal):
    assert page.grid.setup["likes"] and page.grid.now["offer"] == {}
    page.send(type="decide", places=[0], decision="relabel", suggestion=2)
    offer = page.grid.now["offer"]
    assert (offer["decision"], offer["label"]) == ("relabel", "0007")
    assert page.offered() == ["0003", "0002", "0004"]
    # The second one was unticked.
    assert page.take("0003", "0004") == ""
    assert journal.latest()["label"].to_dict() == dict.fromkeys(["0000", "0003", "0004"], "0007")
    # They were looked at: each line notes what was shown with its photo.
    assert journal.read()["shown"].str.startswith("rose").all()
    assert page.grid.now["offer"] == {} and page.grid.now["cursor"] == 1
    page.send(type="undo")
    assert journal.latest().index.tolist() == ["0000"]


def test_what_a_person_decided_is_not_offered(page, journal):
    page.send(type="decide", places=[3], decision="keep")
    journal.append("0002", "drop", reviewer="bob")
    page.send(type="decide", places=[0], decision="drop")
    # 0006 is of another kind, 0005 has no features.
    assert page.offered() == ["0004", "0001"]
    journal.append("0004", "keep", reviewer="bob")
    page.take("0004", "0001")
    assert journal.voices()["0004"] == {"bob": ("keep", "")}
    assert journal.voices()["0001"] == {"ann": ("drop", "")}


def test_only_what_was_shown_can_be_decided_alike(page, journal):
    page.send(type="decide", places=[0], decision="drop")
    before = journal.size()
    assert "no longer offered" in page.take("0003")
    page.offered()
    for items in (["0006"], ["0001"], ["no image"]):
        assert "no longer offered" in page.take(*items)
    assert "no gallery asks for" in page.take()
    number = page.grid.now["offer"]["id"]
    page.send(type="arrange", sort="order", descending=False, show="all", text="")
    assert page.grid.now["offer"] == {}
    assert "no longer offered" in page.send(type="alike", offer=number, items=["0003"])
    assert journal.size() == before


def test_several_at_once_offer_nothing(page):
    page.send(type="decide", places=[0, 1], decision="drop")
    assert page.grid.now["offer"] == {}
    for number in (0, 7):
        page.send(type="likes", offer=number)
        assert page.got[-1]["tiles"] == []


def test_an_old_offer_brings_nothing(page):
    page.send(type="decide", places=[0], decision="drop")
    number = page.grid.now["offer"]["id"]
    page.send(type="decide", places=[1], decision="drop")
    page.send(type="likes", offer=number)
    assert page.got[-1]["tiles"] == []


def test_the_key_of_like_cases_is_taken(alike, journal, job):
    with pytest.raises(ValueError, match="'a' is taken by like cases"):
        Gallery(alike, journal, {"a": "keep"}, title="x", likes=Likes(job, 3))
    Gallery(alike, journal, {"a": "keep"}, title="x")


def test_a_kind_is_label_verdict_and_likeliest_class(tmp_path):
    ids = ["a", "b", "c", "d", "e"]
    table = pd.DataFrame({"image_id": ids, "given": list("xxyxx"), "label": "y", "path": ids})
    verdict = pd.Series(["drop", "drop", "drop", "relabel", "drop"], ids)
    suggestions = {image: [("y", 0.5), ("z", 0.4)] for image in "abcd"}
    shown = candidates_module.of_images(
        table, table.assign(file=ids), pd.Series(0.5, ids), "p",
        given=True, suggestions=suggestions, verdict=verdict,
    )  # fmt: skip
    assert shown.groupby("kind")["item"].agg("".join).tolist() == ["e", "ab", "d", "c"]
