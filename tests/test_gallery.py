"""The gallery and the contact sheet without a browser; tests/browser holds those with one."""

import io
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from PIL import Image, ImageColor

from fgvc_utils.gallery import Gallery, contact_sheet, decision_colour, thumbnail
from fgvc_utils.journal import Journal

CHOICES = {"k": "keep", "d": "drop", "r": "relabel"}


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "decisions" / "02_coarse.csv")


@pytest.fixture
def candidates(tmp_path):
    """Seven photos of one colour each: `0000` is black, each further one is brighter."""
    for number in range(7):
        photo = Image.new("RGB", (200, 100), (number * 30,) * 3)
        photo.save(tmp_path / f"{number:04d}.jpg")
    items = [f"{number:04d}" for number in range(7)]
    return pd.DataFrame(
        {
            "item": items,
            "image": [tmp_path / f"{item}.jpg" for item in items],
            "caption": [f"rose · p 0.{item[-1]}" for item in items],
            "suggested": ["0012", None, *["0007"] * 5],
        }
    )


def make(candidates, journal, **options):
    options = {"title": "Which stay?", "page_size": 3, "reviewer": "ann", **options}
    return Gallery(candidates, journal, CHOICES, **options)


def send(gallery, **message):
    """Hand a message to the kernel's side as the browser would send it."""
    gallery.grid._handle_custom_msg({"id": "view/1", **message}, [])


def test_decision_is_in_the_journal_and_the_next_undecided_is_selected(candidates, journal):
    gallery = make(candidates, journal)
    assert gallery.selected == "0000" and gallery.progress == "decided 0 of 7"
    gallery.decide("0000", "relabel")
    gallery.decide("0002", "drop")
    gallery.decide("0001", "keep")
    assert gallery.selected == "0003" and gallery.page == 1
    assert gallery.progress == "decided 3 of 7"
    lines = journal.read()
    assert lines["item"].tolist() == ["0000", "0002", "0001"]
    assert lines["decision"].tolist() == ["relabel", "drop", "keep"]
    assert lines["label"].tolist() == ["0012", "", ""]
    assert set(lines["reviewer"]) == {"ann"}
    assert lines["shown"].tolist()[0] == "rose · p 0.0 → 0012"


def test_journal_is_written_before_the_screen_changes(candidates, journal):
    gallery = make(candidates, journal)
    on_disk = []
    gallery.grid.observe(lambda _: on_disk.append(journal.latest().index.tolist()), "now")
    gallery.decide("0000", "keep")
    assert on_disk == [["0000"]]


def test_decision_that_cannot_be_written_is_not_shown(candidates, journal):
    gallery = make(candidates, journal)
    journal.path.parent.mkdir()
    journal.path.write_text("another,file\n")
    with pytest.raises(ValueError, match="not a journal"):
        gallery.decide("0000", "keep")
    send(gallery, type="decide", item="0001", decision="keep")
    assert gallery.decisions == {} and gallery.grid.now["decisions"] == {}
    assert "not a journal" in gallery.grid.now["error"]
    assert gallery.grid.now["answer"] == "view/1"
    assert journal.path.read_text() == "another,file\n"


def test_reopened_gallery_shows_the_journal_and_starts_at_the_first_undecided(candidates, journal):
    for item in ("0000", "0001", "0002", "0004"):
        journal.append(item, "keep")
    journal.append("from another set", "drop")
    gallery = make(candidates, journal)
    assert gallery.progress == "decided 4 of 7" and gallery.selected == "0003"
    assert gallery.grid.page["number"] == 1
    assert gallery.grid.now["decisions"] == {"0004": {"decision": "keep", "label": ""}}


def test_undo_goes_back_through_this_gallery_only(candidates, journal):
    journal.append("0000", "keep")
    gallery = make(candidates, journal)
    with pytest.raises(ValueError, match="nothing was decided"):
        gallery.undo()
    gallery.decide("0000", "drop")
    gallery.decide("0005", "drop")
    gallery.undo()
    assert gallery.selected == "0005" and gallery.decisions == {"0000": "drop"}
    gallery.undo()
    assert gallery.selected == "0000" and gallery.decisions == {"0000": "keep"}
    assert make(candidates, journal).decisions == {"0000": "keep"}
    with pytest.raises(ValueError):
        gallery.undo()
    assert journal.read()["decision"].tolist() == ["keep", "drop", "drop", "undo", "undo"]


def test_pages_hold_thumbnails_as_one_run_of_bytes(candidates, journal):
    gallery = make(candidates, journal, thumbnail_side=64)
    page = gallery.grid.page
    assert [tile["item"] for tile in page["tiles"]] == ["0000", "0001", "0002"]
    for number, (begin, end) in enumerate(
        zip(page["offsets"][:-1], page["offsets"][1:], strict=True)
    ):
        photo = Image.open(io.BytesIO(page["jpegs"][begin:end]))
        assert photo.size == (64, 32)
        assert abs(np.asarray(photo).mean() - number * 30) < 3
    gallery.turn(1)
    assert [tile["item"] for tile in gallery.grid.page["tiles"]] == ["0003", "0004", "0005"]
    gallery.turn(9)
    assert gallery.page == 2 and [t["item"] for t in gallery.grid.page["tiles"]] == ["0006"]
    gallery.turn(-9)
    assert gallery.page == 0
    gallery.seek_undecided()
    assert gallery.selected == "0000"


def test_last_decision_stays_in_view(candidates, journal):
    gallery = make(candidates.head(2), journal)
    gallery.decide("0001", "keep")
    assert gallery.selected == "0000"
    gallery.decide("0000", "keep")
    assert gallery.selected == "0000" and gallery.progress == "decided 2 of 2"


def test_messages_of_the_browser(candidates, journal):
    gallery = make(candidates, journal)
    send(gallery, type="decide", item="0001", decision="drop", id="view/1")
    assert gallery.grid.now["answer"] == "view/1" and gallery.grid.now["error"] == ""
    assert gallery.grid.now["cursor"] == 2
    send(gallery, type="turn", pages=1, id="view/2")
    assert gallery.page == 1 and gallery.grid.now["answer"] == "view/2"
    send(gallery, type="undo", id="view/3")
    assert gallery.selected == "0001" and gallery.decisions == {}
    send(gallery, type="undo", id="view/4")
    assert "nothing was decided" in gallery.grid.now["error"]
    send(gallery, type="decide", item="0001", decision="relabel", id="view/5")
    assert "no suggested label" in gallery.grid.now["error"]
    assert gallery.grid.now["cursor"] == 1 and gallery.decisions == {}
    send(gallery, type="decide", item="stranger", decision="keep", id="view/6")
    assert "stranger" in gallery.grid.now["error"]
    assert journal.read()["decision"].tolist() == ["drop", "undo"]


def test_decision_outside_the_choices_is_refused(candidates, journal):
    with pytest.raises(ValueError, match="'maybe' is not one of"):
        make(candidates, journal).decide("0000", "maybe")
    assert not journal.path.exists()


def test_missing_and_damaged_photos_are_named(candidates, journal, tmp_path):
    (tmp_path / "0000.jpg").unlink()
    whole = (tmp_path / "0001.jpg").read_bytes()
    (tmp_path / "0001.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "0002.jpg").write_text("<html>not found</html>")
    page = make(candidates, journal).grid.page
    images = [tile["images"][0] for tile in page["tiles"]]
    assert [image["problem"] for image in images] == ["missing", "unreadable", "unreadable"]
    assert [image["name"] for image in images] == ["0000.jpg", "0001.jpg", "0002.jpg"]
    assert page["offsets"] == [0, 0, 0, 0] and page["jpegs"] == b""
    assert contact_sheet(candidates).size[0] > 0


def test_thumbnail_is_upright_rgb(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("CMYK", (400, 200)).save(tmp_path / "turned.jpg", exif=exif)
    photo = thumbnail(tmp_path / "turned.jpg", 100)
    assert photo.mode == "RGB" and photo.size == (50, 100)


@pytest.fixture
def rows(candidates):
    return pd.DataFrame(
        {
            "item": ["rosa", "lilium"],
            "image": [candidates["image"].tolist()[:4], candidates["image"].tolist()[4:]],
            "caption": ["rosa, 4 photos", "lilium, 3 photos"],
        }
    )


def test_row_of_photos_is_decided_as_one(rows, journal):
    gallery = Gallery(rows, journal, {"k": "keep", "d": "drop"}, title="Which classes mean?")
    assert gallery.grid.rows
    assert [len(tile["images"]) for tile in gallery.grid.page["tiles"]] == [4, 3]
    assert len(gallery.grid.page["offsets"]) == 8
    gallery.decide("rosa", "drop")
    assert journal.latest()["decision"].to_dict() == {"rosa": "drop"}
    assert gallery.selected == "lilium"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda table: table.drop(columns="caption"), "caption"),
        (lambda table: table.assign(item=range(7)), "`item`"),
        (lambda table: table.assign(item="same"), "twice in column `item`"),
        (lambda table: table.assign(suggested=12), "`suggested`"),
        (lambda table: table.assign(image=7), "`image`"),
        (lambda table: table.assign(image=[["a"], *["b"] * 6]), "both paths and lists"),
    ],
)
def test_wrong_candidates_are_named(candidates, journal, change, named):
    with pytest.raises(ValueError, match=named):
        make(change(candidates), journal)
    with pytest.raises(ValueError, match=named):
        contact_sheet(change(candidates))


@pytest.mark.parametrize(
    "choices", [{}, {"keep": "keep"}, {"u": "unsure"}, {"K": "keep"}, {"x": "undo"}, {" ": "keep"}]
)
def test_keys_that_cannot_be_used_are_refused(candidates, journal, choices):
    with pytest.raises(ValueError, match="choices"):
        Gallery(candidates, journal, choices, title="x")


def test_gallery_without_candidates(candidates, journal):
    gallery = make(candidates.head(0), journal)
    assert gallery.selected is None and gallery.pages == 1
    assert "no candidates" in repr(gallery)
    assert gallery.grid.page["tiles"] == []
    assert contact_sheet(candidates.head(0), title="Nothing").size[1] > 20


def test_cut_lines_are_told(candidates, journal):
    journal.append("0000", "keep")
    with open(journal.path, "a") as file:
        file.write("0001,ke")
    assert "1 cut line" in repr(make(candidates, journal))


def shows_colour(sheet, colour):
    """Whether the picture holds the colour, give or take what its palette makes of it."""
    pixels = np.asarray(sheet.convert("RGB"), int)
    return bool((np.abs(pixels - ImageColor.getrgb(colour)).max(axis=2) <= 12).any())


def test_contact_sheet_frames_what_is_decided(candidates, journal):
    plain = contact_sheet(candidates, columns=4, side=96)
    # Two lines of cells: taller than one line, as wide as four cells.
    one_line = contact_sheet(candidates.head(4), columns=4, side=96)
    assert plain.width == one_line.width and plain.height > one_line.height
    assert not shows_colour(plain, decision_colour("drop"))
    journal.append("0001", "drop")
    decided = contact_sheet(candidates, columns=4, side=96, journal=journal)
    assert shows_colour(decided, decision_colour("drop"))
    assert not shows_colour(decided, decision_colour("keep"))
    changed = (
        np.abs(np.asarray(decided.convert("RGB"), int) - np.asarray(plain.convert("RGB"), int))
        .sum(axis=(0, 2))
        .nonzero()[0]
    )
    cell = plain.width // 4
    assert changed.min() >= cell and changed.max() < 2 * cell


def test_contact_sheet_shows_the_photos_up_to_the_limit(candidates):
    sheet = np.asarray(contact_sheet(candidates, columns=7, limit=3, side=64).convert("RGB"))
    cell = sheet.shape[1] // 7
    middles = [int(sheet[26 + 4 + 32, cell * place + cell // 2].mean()) for place in range(4)]
    assert np.allclose(middles, [0, 30, 60, 255], atol=3)


def test_contact_sheet_of_rows(rows, journal):
    journal.append("lilium", "keep")
    sheet = contact_sheet(rows, columns=4, side=96, title="Small classes", journal=journal)
    assert shows_colour(sheet, decision_colour("keep"))
    assert sheet.width == 4 * 104


def test_colours_are_stable_and_distinct():
    assert decision_colour("keep") != decision_colour("drop") != decision_colour("relabel")
    assert decision_colour("unsure") == decision_colour("unsure")


def test_import_brings_no_training_library():
    script = (
        "import sys, fgvc_utils.gallery\n"
        "heavy = {'torch', 'timm', 'fastai', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_executed_notebook_says_how_to_decide(candidates, journal, tmp_path):
    """Without a browser a line of text stands where the gallery would be, and nothing waits."""
    candidates.to_pickle(tmp_path / "candidates.pkl")
    code = (
        "import pandas as pd\n"
        "from fgvc_utils.gallery import Gallery, contact_sheet\n"
        "from fgvc_utils.journal import Journal\n"
        f"candidates = pd.read_pickle({str(tmp_path / 'candidates.pkl')!r})\n"
        f"journal = Journal({str(journal.path)!r})\n"
        "Gallery(candidates, journal, {'k': 'keep'}, title='Which stay?')"
    )
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(code),
            nbformat.v4.new_code_cell("contact_sheet(candidates, journal=journal)"),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
    )
    journal.append("0003", "keep")
    nbformat.write(notebook, tmp_path / "in.ipynb")
    executed = papermill.execute_notebook(
        tmp_path / "in.ipynb", tmp_path / "out.ipynb", store_widget_state=False
    )
    outputs = executed.cells[0].outputs
    texts = [output.data.get("text/plain", "") for output in outputs if "data" in output]
    assert any("7 candidates, 1 of them decided" in text and "JupyterLab" in text for text in texts)
    sheet = executed.cells[1].outputs[0].data
    assert "image/png" in sheet and "image/jpeg" not in sheet
