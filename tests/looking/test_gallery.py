"""The kernel's side of the gallery; tests/browser holds the tests with a browser."""

import io
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from PIL import Image

from fgvc_utils.looking.gallery import Gallery, Grid

CHOICES = {"k": "keep", "d": "drop"}


def make(candidates, journal, **options):
    options = {"title": "Which stay?", "reviewer": "ann", **options}
    return Gallery(candidates, journal, CHOICES, **options)


class Browser:
    """What the browser would send, and what it gets."""

    def __init__(self, gallery, monkeypatch):
        self.grid = gallery.grid
        self.got = []
        monkeypatch.setattr(
            type(self.grid),
            "send",
            lambda _, content, buffers=None: self.got.append((content, buffers)),
        )

    def send(self, **message):
        defaults = {"id": "me/1", "ask": "me/1", "view": self.now["view"]}
        self.grid._handle_custom_msg({**defaults, "cursor": self.now["cursor"], **message}, [])

    def decide(self, places, decision, **more):
        self.send(type="decide", places=places, decision=decision, **more)
        assert self.now["error"] == ""

    def ask(self, **message):
        """The answer to a question: its content and its photos."""
        self.got.clear()
        self.send(**message)
        ((content, (joined,)),) = self.got
        ends = np.cumsum([0, *content["sizes"]])
        assert ends[-1] == len(joined)
        return content, [
            joined[a:b] for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        ]

    @property
    def now(self):
        return self.grid.now


@pytest.fixture
def browser(monkeypatch):
    return lambda gallery: Browser(gallery, monkeypatch)


def brightness(jpeg):
    return float(np.asarray(Image.open(io.BytesIO(jpeg))).mean())


def test_decision_is_in_the_journal_and_the_next_undecided_is_selected(
    candidates, journal, browser
):
    page = browser(make(candidates, journal))
    assert page.now["cursor"] == 0 and page.now["progress"] == "decided 0 of 7"
    page.decide([0], "relabel")
    page.decide([2, 3], "drop")
    assert page.now["cursor"] == 4
    page.decide([1], "keep")
    assert page.now["cursor"] == 4 and page.now["progress"].startswith("decided 4 of 7")
    lines = journal.read()
    assert lines["item"].tolist() == ["0000", "0002", "0003", "0001"]
    assert lines["label"].tolist() == ["0012", "", "", ""]
    assert set(lines["reviewer"]) == {"ann"}


def test_journal_is_written_before_the_screen_changes(candidates, journal, browser):
    page = browser(make(candidates, journal))
    on_disk = []
    page.grid.observe(lambda _: on_disk.append(journal.latest().index.tolist()), "now")
    page.decide([0], "keep")
    assert on_disk == [["0000"]]


def test_decision_that_cannot_be_written_is_not_shown(candidates, journal, browser):
    gallery = make(candidates, journal)
    page = browser(gallery)
    journal.path.parent.mkdir()
    journal.path.mkdir()
    page.send(type="decide", places=[1], decision="keep", id="me/7")
    assert gallery.decisions == {} and page.now["changes"] == {}
    assert "02_coarse.csv" in page.now["error"] and page.now["answer"] == "me/7"


def test_actions_of_the_browser(candidates, journal, browser):
    gallery = make(candidates, journal)
    page = browser(gallery)
    page.send(type="decide", places=[1, 2], decision="drop", id="me/1")
    assert page.now["answer"] == "me/1" and page.now["error"] == ""
    assert page.now["cursor"] == 3 and set(page.now["changes"]) == {"0001", "0002"}
    assert page.now["changes"]["0001"]["decision"] == "drop"
    page.send(type="undo", id="me/2")
    assert page.now["cursor"] == 1 and gallery.decisions == {}
    assert page.now["changes"]["0002"]["decision"] == ""
    page.send(type="redo", id="me/3")
    assert gallery.decisions == {"0001": "drop", "0002": "drop"}
    page.send(type="redo", id="me/4")
    assert "nothing to redo" in page.now["error"]
    page.send(type="decide", places=[0], decision="relabel", suggestion=1, id="me/5")
    assert page.now["changes"]["0000"] == {
        "decision": "relabel",
        "label": "0012",
        "disputed": "",
        "follows": "",
    }
    page.send(type="seek", cursor=0, id="me/6")
    assert page.now["cursor"] == 3 and page.now["answer"] == "me/6"
    page.send(type="decide", places=[99], decision="keep", id="me/7")
    assert page.now["error"] and page.now["answer"] == "me/7"


def test_what_was_seen_is_what_is_decided(candidates, journal, browser):
    """Places mean the order that the browser saw; after another one they mean nothing."""
    gallery = make(candidates.assign(p=[3, 1, 2, 0, 5, 4, 6]), journal, sorts={"p": "p"})
    page = browser(gallery)
    seen = page.now["view"]
    page.send(type="arrange", sort="p", descending=True, show="all", text="", id="me/1")
    assert page.now["count"] == 7 and page.now["view"] == seen + 1
    page.send(type="decide", places=[0], decision="drop", view=seen, id="me/2")
    assert "order has changed" in page.now["error"] and gallery.decisions == {}
    page.send(type="decide", places=[0, 1], decision="drop", id="me/3")
    assert gallery.decisions == {"0004": "drop", "0006": "drop"}
    page.send(type="arrange", sort="order", descending=False, show="undecided", text="", id="m")
    assert page.now["count"] == 5 and page.now["arranged"]["show"] == "undecided"
    page.send(type="arrange", sort="beauty", descending=False, show="all", text="", id="me/5")
    assert "sort by one of" in page.now["error"]


def test_tiles_come_as_asked(candidates, journal, browser):
    journal.append("0003", "drop")
    page = browser(make(candidates, journal, thumbnail_side=64))
    content, jpegs = page.ask(type="tiles", **{"from": 2, "to": 5}, ask="me/9")
    assert (content["ask"], content["begin"]) == ("me/9", 2)
    assert [tile["item"] for tile in content["tiles"]] == ["0002", "0003", "0004"]
    assert [tile["now"]["decision"] for tile in content["tiles"]] == ["", "drop", ""]
    assert Image.open(io.BytesIO(jpegs[0])).size == (64, 32)
    assert [round(brightness(jpeg) / 30) for jpeg in jpegs] == [2, 3, 4]
    page.got.clear()
    page.send(type="tiles", **{"from": 0, "to": 5}, view=99)
    assert page.got == []


def test_a_look_brings_exemplars_of_the_class_and_of_the_suggestions(candidates, journal, browser):
    paths = candidates["image"].tolist()
    candidates["label"] = "rosa"
    candidates["suggestions"] = [[("viola", 0.75), ("rosa", 0.2)]] * 7
    exemplars = {"rosa": paths[:3], "viola": paths[4:6]}
    page = browser(make(candidates.drop(columns="suggested"), journal, exemplars=exemplars))
    content, jpegs = page.ask(type="look", place=1)
    assert content["given"]["label"] == "rosa"
    assert [one["label"] for one in content["suggestions"]] == ["viola", "rosa"]
    assert [one["score"] for one in content["suggestions"]] == [0.75, 0.2]
    # Itself, its class without itself, then the classes it may be instead.
    assert [round(brightness(jpeg) / 30) for jpeg in jpegs] == [1, 0, 2, 4, 5, 0, 2]
    page.got.clear()
    page.send(type="look", place=7)
    assert page.got == []


def test_zoom_brings_the_full_photo_or_what_there_is(candidates, journal, browser, tmp_path):
    Image.new("RGB", (3000, 2000), (200,) * 3).save(tmp_path / "raw.jpg")
    candidates["full"] = [tmp_path / "raw.jpg", tmp_path / "gone.jpg", *candidates["image"][2:]]
    page = browser(make(candidates, journal))
    _, (jpeg,) = page.ask(type="zoom", place=0)
    assert Image.open(io.BytesIO(jpeg)).size == (1600, 1067)
    _, (jpeg,) = page.ask(type="zoom", place=1)
    assert Image.open(io.BytesIO(jpeg)).size == (200, 100)


def test_zoom_brings_the_suggestions_too(candidates, journal, browser):
    paths = candidates["image"].tolist()
    candidates["label"] = "rosa"
    candidates["suggestions"] = [[("viola", 0.75), ("rosa", 0.2)]] * 7
    exemplars = {"rosa": paths[:3], "viola": paths[4:6]}
    page = browser(make(candidates.drop(columns="suggested"), journal, exemplars=exemplars))
    zoom, jpegs = page.ask(type="zoom", place=1)
    look, _ = page.ask(type="look", place=1)
    assert zoom["suggestions"] == look["suggestions"] and zoom["given"] == look["given"]
    assert [one["label"] for one in zoom["suggestions"]] == ["viola", "rosa"]
    assert [round(brightness(jpeg) / 30) for jpeg in jpegs] == [1, 0, 2, 4, 5, 0, 2]


def test_best_suggestion_that_is_the_given_label_is_shown_as_unsure(candidates, journal, browser):
    candidates["label"] = ["0012", "", *["rose"] * 5]
    candidates["suggestions"] = [[("0012", 0.6), ("0007", 0.3)], [], *[[("0007", 0.9)]] * 5]
    page = browser(make(candidates.drop(columns="suggested"), journal))
    content, _ = page.ask(type="tiles", **{"from": 0, "to": 3})
    shown = [(tile["suggested"], tile["scores"]) for tile in content["tiles"]]
    assert shown == [("unsure", ""), ("", ""), ("→ 0007", "→ 0.90")]


def test_tiles_have_a_line_for_each_line_of_text(candidates, rows, journal):
    two_lines = candidates.assign(caption="rose\np 0.50")
    plain = candidates.drop(columns="suggested")
    lines = [
        make(table, journal).grid.setup["lines"] for table in (candidates, two_lines, plain, rows)
    ]
    assert lines == [2, 3, 1, 1]


def test_the_widget_reads_as_a_sentence(candidates, journal):
    """What is seen of it where nothing draws a widget."""
    gallery = make(candidates, journal)
    assert repr(gallery.grid) == repr(gallery)
    assert gallery.grid._repr_mimebundle_()[0]["text/plain"] == repr(gallery)
    assert repr(Grid()) == "A gallery; open it in JupyterLab."


def test_search_finds_classes_and_the_found_one_is_taken(candidates, journal, browser):
    classes = [f"class {number:04d}" for number in range(5000)]
    exemplars = {"class 0042": candidates["image"].tolist()[:1]}
    gallery = make(candidates, journal, classes=classes, exemplars=exemplars)
    page = browser(gallery)
    content, jpegs = page.ask(type="search", text="004")
    assert [one["label"] for one in content["found"]][:3] == [
        "class 0040",
        "class 0041",
        "class 0042",
    ]
    assert len(content["found"]) == 15 and len(jpegs) == 1
    page.send(type="decide", places=[0], decision="relabel", label="class 0042")
    assert journal.latest().loc["0000", "label"] == "class 0042"
    page.send(type="decide", places=[1], decision="relabel", label="class 9999")
    assert "no class of this contest" in page.now["error"]


def test_relabel_is_no_decision_where_there_is_nothing_to_take(candidates, journal, browser):
    plain = candidates.drop(columns="suggested")
    page = browser(make(plain, journal))
    page.send(type="decide", places=[0], decision="relabel", label="rosa")
    assert "'relabel' is not one of" in page.now["error"]
    browser(make(plain, journal, classes=["rosa"])).decide([0], "relabel", label="rosa")
    assert journal.latest()["label"].to_dict() == {"0000": "rosa"}


def test_row_of_photos_is_decided_as_one(rows, journal, browser):
    gallery = make(rows, journal)
    page = browser(gallery)
    assert gallery.grid.setup["rows"]
    content, jpegs = page.ask(type="tiles", **{"from": 0, "to": 9})
    assert [len(tile["images"]) for tile in content["tiles"]] == [4, 3] and len(jpegs) == 7
    content, jpegs = page.ask(type="zoom", place=0)
    assert len(content["images"]) == len(jpegs) == 4
    page.decide([0], "drop")
    assert journal.latest()["decision"].to_dict() == {"rosa": "drop"}
    assert page.now["cursor"] == 1


def test_long_rows_say_how_many_more_there_are(rows, journal, browser):
    rows["image"] = [paths * 5 for paths in rows["image"]]
    page = browser(make(rows, journal))
    content, jpegs = page.ask(type="tiles", **{"from": 0, "to": 9})
    assert [tile["more"] for tile in content["tiles"]] == [10, 5] and len(jpegs) == 20
    assert len(page.ask(type="zoom", place=0)[1]) == 20


def test_another_reviewers_decisions_arrive_with_the_next_action(candidates, journal, browser):
    page = browser(make(candidates, journal))
    journal.append("0005", "drop", reviewer="bob")
    page.send(type="decide", places=[0], decision="keep")
    assert page.now["changes"]["0005"]["decision"] == "drop"
    journal.append("0000", "drop", reviewer="bob")
    page.send(type="seek", cursor=0)
    assert page.now["changes"]["0000"]["disputed"] == "ann: keep, bob: drop"


def test_disputes_of_others_wait_first_in_a_gallery(candidates, journal, browser):
    journal.append("0004", "keep", reviewer="bob")
    journal.append("0004", "drop", reviewer="carla")
    page = browser(make(candidates, journal))
    assert page.now["arranged"]["sort"] == "disputes first" and page.now["cursor"] == 0
    page.decide([0], "keep")
    assert journal.latest()["reviewer"].to_dict() == {"0004": "ann"}
    assert page.now["cursor"] == 1
    # Nobody can settle what they are part of.
    journal.append("0004", "drop", reviewer="carla")
    journal.append("0003", "keep", reviewer="bob")
    assert make(candidates, journal).grid.now["arranged"]["sort"] == "order"


def test_summary_follows_the_decisions(candidates, journal, browser):
    page = browser(make(candidates, journal, summary=lambda made: f"{len(made)} so far"))
    assert page.now["note"] == "0 so far"
    page.decide([0], "keep")
    assert page.now["note"] == "1 so far"


def test_review_that_is_required(candidates, journal, browser):
    gallery = make(candidates, journal, asked=2)
    gallery.require(False)
    with pytest.raises(RuntimeError, match="2 of 2 candidates.*require_review"):
        gallery.require(True)
    journal.append("0000", "keep", reviewer="bob")
    browser(gallery).decide([1], "keep")
    gallery.require(True)


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"keep": "keep"},
        {"u": "unsure"},
        {"1": "one"},
        {"?": "what"},
        {"K": "k"},
        {"x": "undo"},
        {" ": "k"},
    ],
)
def test_keys_that_cannot_be_used_are_refused(candidates, journal, choices):
    with pytest.raises(ValueError, match="choices"):
        Gallery(candidates, journal, choices, title="x")


BAD_MESSAGES = [
    {"type": "decide", "places": [0], "decision": "keep", "label": 12},
    {"type": "decide", "places": [0], "decision": ["keep"]},
    {"type": "decide", "places": [0], "decision": "k" * 100_000},
    {"type": "decide", "places": [0], "decision": "keep", "suggestion": "1"},
    {"type": "decide", "places": [0.0], "decision": "keep"},
    {"type": "decide", "places": [True], "decision": "keep"},
    {"type": "decide", "places": ["0000"], "decision": "keep"},
    {"type": "decide", "places": [-1], "decision": "keep"},
    {"type": "decide", "places": [10**30], "decision": "keep"},
    {"type": "decide", "places": [99], "decision": "keep"},
    {"type": "decide", "places": [], "decision": "keep"},
    {"type": "decide", "places": "0", "decision": "keep"},
    {"type": "decide", "places": None, "decision": "keep"},
    {"type": "decide", "decision": "keep"},
    {"type": "decide", "places": [0]},
    {"type": "decide", "places": [0], "decision": "undo"},
    {"type": "decide", "places": [0], "decision": "relabel", "label": "no class\nkeep"},
    {"type": "decide", "places": [0], "decision": "keep", "view": None},
    {"type": "decide", "places": [0], "decision": "keep", "cursor": "here"},
    {"type": "seek", "cursor": -5},
    {"type": "seek", "cursor": {}},
    {"type": "arrange", "sort": ["order"], "descending": False, "show": "all", "text": ""},
    {"type": "arrange", "sort": "order", "descending": 1, "show": "all", "text": ""},
    {"type": "arrange", "sort": "order", "descending": False, "show": "all", "text": "x" * 10**6},
    {"type": "tiles", "from": "0", "to": 5},
    {"type": "tiles", "from": -3, "to": 5},
    {"type": "look", "place": "../../etc/passwd"},
    {"type": "zoom", "place": "/etc/passwd"},
    {"type": "zoom", "image": "/etc/passwd"},
    {"type": "search", "text": {"$ne": ""}},
    {"type": "likes", "offer": "1"},
    {"type": "alike", "offer": 0, "items": ["0000"]},
    {"type": "alike", "offer": 0, "items": [0]},
    {"type": "alike", "offer": 0, "items": []},
    {"type": "alike", "offer": 0, "items": ["0000"] * 2000},
    {"type": "read", "path": "/etc/passwd"},
    {"type": ["zoom"]},
    {"type": None},
    {},
]


@pytest.mark.parametrize("message", BAD_MESSAGES, ids=lambda message: str(message)[:60])
def test_odd_messages_are_refused_and_leave_no_trace(candidates, journal, browser, message):
    gallery = make(candidates, journal, classes=["rosa"])
    page = browser(gallery)
    page.send(**{"id": "me/5", **message})
    assert page.now["error"] and page.now["answer"] == "me/5" and page.got == []
    assert len(page.now["error"]) < 1000
    assert not journal.path.exists() and gallery.decisions == {}
    # And the gallery goes on.
    page.send(type="decide", places=[0], decision="keep", id="me/6")
    assert page.now["answer"] == "me/6" and gallery.decisions == {"0000": "keep"}


@pytest.mark.parametrize("content", [None, 5, "decide", [], {"id": ["me"], "type": "undo"}])
def test_what_is_no_message_is_refused(candidates, journal, browser, content):
    page = browser(make(candidates, journal))
    page.grid._handle_custom_msg(content, [])
    assert "no gallery asks for" in page.now["error"] and page.now["answer"] == ""


def test_a_place_named_twice_is_decided_once(candidates, journal, browser):
    page = browser(make(candidates, journal))
    page.send(type="decide", places=[1, 1, 1], decision="drop")
    assert len(journal.read()) == 1


def test_photos_outside_of_the_contests_folders_are_not_shown(
    candidates, journal, browser, tmp_path
):
    (tmp_path / "root").mkdir()
    secret = Path(candidates["image"][0])
    inside = tmp_path / "root" / "inside.jpg"
    inside.write_bytes(secret.read_bytes())
    (tmp_path / "root" / "link.jpg").symlink_to(secret)
    (tmp_path / "root" / "circle.jpg").symlink_to(tmp_path / "root" / "circle.jpg")
    named = [inside, tmp_path / "root" / ".." / secret.relative_to(tmp_path), secret]
    named += [tmp_path / "root" / name for name in ("link.jpg", "circle.jpg", "a\0b.jpg", "gone")]
    candidates["image"] = [str(path) for path in named]
    page = browser(make(candidates, journal, folders=[tmp_path / "root"]))
    content, jpegs = page.ask(type="tiles", **{"from": 0, "to": 7})
    problems = [tile["images"][0]["problem"] for tile in content["tiles"]]
    outside = "not shown: outside of the contest's folders"
    assert problems == ["", outside, outside, outside, outside, outside, "missing"]
    assert [bool(jpeg) for jpeg in jpegs] == [True] + 6 * [False]
    for place in range(1, 6):
        assert page.ask(type="zoom", place=place)[1] == [b""]
        assert page.ask(type="look", place=place)[1][0] == b""


def test_zoom_falls_back_to_the_cache_where_the_raw_photo_lies_elsewhere(
    candidates, journal, browser, tmp_path, tmp_path_factory
):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "raw.jpg"
    Image.new("RGB", (900, 900)).save(elsewhere)
    candidates["full"] = str(elsewhere)
    page = browser(make(candidates, journal, folders=[tmp_path]))
    _, (jpeg,) = page.ask(type="zoom", place=0)
    assert Image.open(io.BytesIO(jpeg)).size == (200, 100)


def test_gallery_without_candidates(candidates, journal, browser):
    gallery = make(candidates.head(0), journal)
    assert "no candidates" in repr(gallery)
    page = browser(gallery)
    assert page.ask(type="tiles", **{"from": 0, "to": 9})[0]["tiles"] == []
    gallery.require(True)


def test_cut_lines_are_mentioned(candidates, journal):
    journal.append("0000", "keep")
    with open(journal.path, "a") as file:
        file.write("0001,ke")
    assert "1 cut line" in repr(make(candidates, journal))


def test_nothing_is_read_before_somebody_looks(candidates, journal):
    gone = candidates.assign(image="nowhere.jpg")
    assert "7 candidates" in repr(make(gone, journal))


def test_import_brings_no_training_library():
    script = (
        "import sys, fgvc_utils.looking.gallery\n"
        "heavy = {'torch', 'timm', 'fastai', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_executed_notebook_shows_a_sheet_and_says_how_to_decide(candidates, journal, tmp_path):
    """Without a browser a picture stands where the gallery would be, and nothing waits."""
    candidates.to_pickle(tmp_path / "candidates.pkl")
    code = (
        "import pandas as pd\n"
        "from fgvc_utils.looking.gallery import Gallery\n"
        "from fgvc_utils.contest.journal import Journal\n"
        f"candidates = pd.read_pickle({str(tmp_path / 'candidates.pkl')!r})\n"
        f"journal = Journal({str(journal.path)!r})\n"
        "Gallery(candidates, journal, {'k': 'keep'}, title='Which stay?')"
    )
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code)],
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
    )
    journal.append("0003", "keep")
    nbformat.write(notebook, tmp_path / "in.ipynb")
    executed = papermill.execute_notebook(
        tmp_path / "in.ipynb", tmp_path / "out.ipynb", store_widget_state=False
    )
    (sheet,) = [output.data for output in executed.cells[0].outputs if "data" in output]
    assert set(sheet) == {"text/plain", "image/png"}
    assert "7 candidates, 1 of them decided" in sheet["text/plain"]
    assert "JupyterLab" in sheet["text/plain"]
