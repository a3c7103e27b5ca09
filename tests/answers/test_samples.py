"""A sample submission decides columns, order, ids and the set of images, and says what is odd."""

import gzip
import zipfile

import pytest
from test_forms import rows, settings, written

from fgvc_utils.answers.forms import as_data, from_data, read_file
from fgvc_utils.answers.planned import MISSING, plan_of
from fgvc_utils.answers.samples import read_sample
from fgvc_utils.core.reading import UnreadableFile

TABLE = rows([f"test/{n:03d}.jpg" for n in range(1, 7)])
CLASSES = ["ant", "bee", "fly"]


def planned(folder, text, classes=CLASSES, table=TABLE, **changes):
    (folder / "sample_submission.csv").write_text(text)
    return plan_of(settings(**changes), table, classes, folder)


def sample(ids, head="id,label\n", line="{},ant\n"):
    return head + "".join(line.format(each) for each in ids)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([f"test/{n:03d}.jpg" for n in range(1, 7)], "path"),
        ([f"{n:03d}.jpg" for n in range(1, 7)], "name"),
        ([f"{n:03d}" for n in range(1, 7)], "stem"),
        ([f"{n}" for n in range(1, 7)], "number"),
        ([f"id{n}" for n in range(6)], "image_id"),
    ],
)
@pytest.mark.parametrize("header", ["id,label\n", ""])
def test_ids_columns_and_the_head_line_are_the_samples(tmp_path, ids, kind, header):
    plan = planned(tmp_path, sample(ids, header))
    assert plan.names.tolist() == ids and plan.layout.header == bool(header)
    assert plan.layout.head == (["id", "label"] if header else ["path", "class"])
    assert plan.notes == [] and not plan.missing
    assert plan.said == ([] if kind == "path" else [f"images by their {kind}"])


@pytest.mark.parametrize("separator", ["\t", ";", "|", " ", ", "])
def test_its_separator_is_the_samples(tmp_path, separator):
    text = sample(range(1, 7)).replace(",", separator)
    plan = planned(tmp_path, text)
    assert plan.layout.separator == separator and plan.layout.head == ["id", "label"]
    assert read_sample(tmp_path / "sample_submission.csv").rows[1] == ["1", "ant"]


def test_the_class_may_stand_before_the_image(tmp_path):
    table = rows(["test/1.jpg", "test/2.jpg"])
    (tmp_path / "sample_submission.csv").write_text("label,id\nant,2\nant,1\n")
    path, _ = written(tmp_path / "r", settings(), table, CLASSES, [[0, 0, 1], [0, 1, 0]], tmp_path)
    assert path.read_text() == "label,id\nbee,2\nfly,1\n"


def test_a_sample_whose_images_have_another_folder_or_ending_is_matched_by_the_rest(tmp_path):
    plan = planned(tmp_path, sample([f"images/{n:03d}.png" for n in range(6, 0, -1)]))
    assert plan.names.iloc[0] == "images/006.png" and plan.names.index[0] == "id5"
    assert "images by their name without folder and ending" in plan.text
    with pytest.raises(ValueError, match="none of its values"):
        planned(tmp_path, sample(["x/001.png", "y/001.png"]))


def test_missing_and_surplus_images_are_said_and_the_samples_set_is_answered(tmp_path):
    plan = planned(tmp_path, sample(["6", "99", "2", "3", "4"]))
    assert plan.names.tolist() == ["6", "99", "2", "3", "4"]
    assert plan.missing == [f"{MISSING}99"] and plan.surplus == 2
    # In the order of the table, the missing one last.
    assert plan.images.tolist() == ["id1", "id2", "id3", "id5", f"{MISSING}99"]
    said = plan.text
    assert "1 images of sample_submission.csv are not among the test images, first '99'" in said
    assert "2 test images are not in sample_submission.csv, first '1'" in said
    assert "lines in the order of sample_submission.csv" in said


def test_a_missing_image_gets_a_line_and_a_surplus_one_none(tmp_path):
    (tmp_path / "sample_submission.csv").write_text("id,label\n2,ant\n9,ant\n")
    table = rows(["test/1.jpg", "test/2.jpg", "test/3.jpg"]).drop(index=2)
    path, _ = written(tmp_path / "r", settings(), table, CLASSES, [[0, 0, 1], [0, 0, 0]], tmp_path)
    assert path.read_text() == "id,label\n2,fly\n9,ant\n"


@pytest.mark.parametrize(
    ("text", "changes", "says"),
    [
        (
            sample(["1"]),
            {},
            "only 1 of the 6 test images.*where it is an example, set sample",
        ),
        (sample(["1", "a", "b", "c"]), {}, "the test images lack 3, first 'a'"),
        (sample(["x", "y"]), {}, "none of its values, such as 'y', .*set image_column and names_f"),
        (sample(["1", "1", *"23456"]), {}, "names the image '1' more than once"),
        ("id\n1\n2\n", {}, "one column, no image and class"),
        ("id,label\n1,ant\n2,ant,bee\n", {}, "line 3 has 3 fields, the first one 2"),
        ("", {}, "is empty"),
        (
            sample(range(1, 7), "id,ant,bee\n", "{},0,0\n"),
            {},
            "no column for 1 classes, first 'fly'",
        ),
        (
            sample(range(1, 7), "id,ant,bee,gnu\n", "{},0,0,0\n"),
            {},
            "first 'fly'; 1 of its columns are no class, first 'gnu'",
        ),
        (sample(range(1, 7), "id,a,b\n", "{},.5,.5\n"), {}, "columns beside the image, 'a', 'b'"),
        (sample(range(1, 7), "id,ant,bee,fly\n", "{},0,0,0\n"), {"rule": "cap"}, "the rule cap"),
        (
            sample(range(1, 7), "id,ant,bee,fly\n", "{},0,0,0\n"),
            {"form": "class"},
            "form class: .*",
        ),
    ],
)
def test_samples_that_do_not_fit_are_refused_with_what_to_do(tmp_path, text, changes, says):
    with pytest.raises(ValueError, match=says):
        planned(tmp_path, text, **changes)


def test_a_sample_shows_ranked_classes_in_one_field_or_in_several(tmp_path):
    plan = planned(tmp_path, sample(range(1, 7), line="{},ant bee\n"))
    assert plan.layout.form == "top" and plan.layout.top == 2 and plan.layout.answer == ("label",)
    plan = planned(tmp_path, sample(range(1, 7), "id,p1,p2\n", "{},ant,bee\n"))
    assert plan.layout.top == 2 and plan.layout.top_separator == ","
    assert plan.layout.head == ["id", "p1", "p2"]
    # A class whose name holds a blank is one class.
    plan = planned(tmp_path, sample(range(1, 7), line="{},red ant\n"), ["red ant", "red", "ant"])
    assert plan.layout.form == "class" and not [note for note in plan.notes if "class" in note]
    # Asked for by name, the sample's number of classes is not the limit.
    plan = planned(tmp_path, sample(range(1, 7)), form="top", top=3)
    assert plan.layout.form == "top" and plan.layout.top == 3


@pytest.mark.parametrize(
    ("classes", "line", "says"),
    [
        (["0001", "0002"], "{},1\n", "they are the classes with class_names: number"),
        (["1", "2"], "{},0002\n", "class_names: number, class_digits: 4"),
        (["ant", "bee"], "{},1\n", "they are the classes with class_names: index"),
        (["ant", "bee"], "{},gnu\n", "is label_column the right one"),
        (["ant", "bee"], "{},gnu elk\n", "Where it ranks classes, set form: top"),
    ],
)
def test_classes_that_are_written_otherwise_are_said_with_the_setting(
    tmp_path, classes, line, says
):
    plan = planned(tmp_path, sample(range(1, 7), line=line), classes)
    assert says in plan.text and plan.layout.form == "class"


def test_columns_of_classes_that_are_written_otherwise_name_the_setting(tmp_path):
    text = sample(range(1, 7), "id,0,1,2\n", "{},0,0,0\n")
    with pytest.raises(ValueError, match="they are the classes with class_names: index"):
        planned(tmp_path, text)
    plan = planned(tmp_path, text, class_names="index")
    assert plan.layout.form == "probabilities" and plan.layout.head == ["id", "0", "1", "2"]


def test_a_class_without_train_images_has_a_column_of_zeros(tmp_path):
    table = rows(["test/1.jpg", "test/2.jpg"])
    (tmp_path / "sample_submission.csv").write_text("id,fly,gnu,bee,ant\n1,0,0,0,0\n2,0,0,0,0\n")
    scores = [[0, 0, 1], [0, 0.5, 0.5]]
    path, plan = written(tmp_path / "r", settings(decimals=1), table, CLASSES, scores, tmp_path)
    assert path.read_text() == "id,fly,gnu,bee,ant\n1,1.0,0.0,0.0,0.0\n2,0.5,0.0,0.5,0.0\n"
    assert "no train image has 1 of its classes, first 'gnu': their probability is 0" in plan.text
    layout = from_data(as_data(plan.layout), plan.layout.classes)
    assert read_file(path, layout).loc["2"].to_dict() == {"ant": 0, "bee": 0.5, "fly": 0.5}


def test_parameters_that_the_sample_overrules_are_said(tmp_path):
    changes = {"columns": ["image", "class"], "header": False, "image_column": "name"}
    plan = planned(tmp_path, sample(range(1, 7)), **changes)
    assert "image_column 'name' does not name the images as" in plan.text
    assert "columns ['image', 'class'] are not those of sample_submission.csv" in plan.text
    assert "header false: sample_submission.csv has a head line" in plan.text
    assert plan.layout.head == ["id", "label"] and plan.layout.header


def test_a_packed_sample_and_one_without_are_taken(tmp_path):
    text = sample(range(1, 7)).encode()
    (tmp_path / "form.csv.gz").write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "form.zip", "w") as archive:
        archive.writestr("sample.csv", b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    for name in ("form.csv.gz", "form.zip"):
        plan = plan_of(settings(sample=name), TABLE, CLASSES, tmp_path)
        assert plan.layout.head == ["id", "label"] and plan.names.tolist() == list("123456")
    for changes in ({}, {"sample": ""}):
        assert (
            plan_of(settings(**changes), TABLE, CLASSES, tmp_path).names.iloc[0] == "test/001.jpg"
        )
    (tmp_path / "sampleSubmission.csv").write_bytes(text)
    (note,) = plan_of(settings(), TABLE, CLASSES, tmp_path).notes
    assert note.endswith("set sample: sampleSubmission.csv")
    (tmp_path / "form.csv").write_bytes("id,label\n1,caf\xe9\n".encode("latin-1"))
    with pytest.raises(UnreadableFile, match="form.csv"):
        plan_of(settings(sample="form.csv"), TABLE, CLASSES, tmp_path)
