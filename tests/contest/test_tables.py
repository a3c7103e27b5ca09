"""The label table keeps its promises, or says which one it breaks."""

import pandas as pd
import pytest

from fgvc_utils.contest import tables


def listing():
    return pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "t"],
            "path": ["train/0012/a.jpg", "train/0012/b.jpg", "train/7/c.jpg", "test/t.jpg"],
            "split": ["train", "train", "train", "test"],
            "given": ["0012", "0012", "7", ""],
        }
    )


@pytest.fixture
def table():
    return tables.new_table(listing())


def test_a_new_table_keeps_every_image_under_its_given_label(table):
    assert list(table.columns) == list(tables.COLUMNS)
    assert (table["label"] == table["given"]).all() and (table["status"] == "keep").all()
    assert (table["group"] == table["image_id"]).all() and (table["fold"] == -1).all()
    assert tables.kept(table).tolist() == [True, True, True, False]
    tables.check_table(table, "new")


def test_a_written_table_comes_back_equal_and_0012_stays_0012(table, tmp_path):
    path = tmp_path / "tables" / "01_noise.parquet"
    tables.write_table(table, path)
    again = tables.read_table(path)
    pd.testing.assert_frame_equal(again, table, check_dtype=False)
    assert again["given"].tolist() == ["0012", "0012", "7", ""]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_table_that_breaks_a_promise_leaves_the_old_file_alone(table, tmp_path):
    path = tmp_path / "02_coarse.parquet"
    tables.write_table(table, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="02_coarse.parquet.*image_id 'a'"):
        tables.write_table(table.assign(image_id="a"), path)
    assert path.read_bytes() == before


def test_a_missing_table_names_the_notebook_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the notebook 03_fine first"):
        tables.read_table(tmp_path / "03_fine.parquet")


@pytest.mark.parametrize("column", tables.COLUMNS)
def test_a_missing_column_is_named(table, column):
    with pytest.raises(ValueError, match=rf"here lacks the column\(s\) {column}[;:]"):
        tables.check_table(table.drop(columns=column), "here")


def test_a_table_of_before_the_codes_says_to_run_from_the_first_stage(table, tmp_path):
    path = tmp_path / "02_coarse.parquet"
    table.drop(columns=["by", "cause"]).to_parquet(path)
    with pytest.raises(ValueError, match="lacks.* by, cause: an earlier version.* from 01_noise"):
        tables.read_table(path)


@pytest.mark.parametrize("column", tables.TEXT_COLUMNS)
@pytest.mark.parametrize("value", [12, None, float("nan")])
def test_values_that_are_not_text_are_named(table, column, value):
    table[column] = [value, *table[column][1:]]
    with pytest.raises(ValueError, match=f"column {column} holds .* not text"):
        tables.check_table(table.astype({column: object}), "here")


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (1, "image_id", "a", "image_id 'a' is in more than one row"),
        (0, "split", "valid", "column split holds 'valid'"),
        (0, "status", "maybe", "column status holds 'maybe'"),
        (3, "given", "7", "a test row has a label"),
        (0, "given", "", "a train row has an empty label"),
        (0, "status", "drop", "image 'a' is left out without a stage and a reason"),
        (0, "by", "Ann", "column by holds 'Ann'"),
        (0, "cause", "noise: p > 0.9", "column cause holds 'noise: p > 0.9'"),
        (0, "cause", "noise", "image 'a' is kept, and its cause is one of images left out"),
        (0, "cause", "confirmed", "image 'a' was decided on by nobody and has a cause"),
        (1, "by", "rule", "image 'b' was decided on .* by somebody and has none"),
    ],
)
def test_broken_rows_are_named(table, row, column, value, message):
    table.loc[table.index[row], column] = value
    with pytest.raises(ValueError, match=f"here: {message}"):
        tables.check_table(table, "here")


def test_leave_out_marks_a_copy_with_one_reason_or_one_each(table):
    first = table["image_id"] == "a"
    out = tables.leave_out(table, first, "01_noise", "noise", "p 0.97")
    assert out.loc["a", ["status", "stage", "by", "cause", "reason"]].tolist() == [
        "drop",
        "01_noise",
        "rule",
        "noise",
        "p 0.97",
    ]
    assert (table["status"] == "keep").all(), "the given table must not change"
    reasons = "rank " + table["image_id"]
    both = tables.leave_out(table, table["given"] == "0012", "02_coarse", "label", reasons)
    assert both["reason"].tolist() == ["rank a", "rank b", "", ""]
    tables.check_table(both, "left out")
    by_hand = tables.leave_out(table, first, "04_lowq", "small_class", by="human")
    assert by_hand.loc["a", ["by", "reason"]].tolist() == ["human", tables.CAUSES["small_class"]]


@pytest.mark.parametrize("cause", tables.DROPPED)
def test_every_cause_of_leaving_out_makes_a_sound_table(table, cause):
    tables.check_table(tables.leave_out(table, table["image_id"] == "a", "01_noise", cause), "out")


def test_emptied_classes_keep_their_index(table):
    out = tables.leave_out(table, table["given"] == "7", "04_lowq", "small_class")
    assert tables.classes_of(out) == tables.classes_of(table) == ["0012", "7"]
    assert tables.emptied_classes(table) == [] and tables.emptied_classes(out) == ["7"]
    relabelled = table.assign(label=["7", "7", "7", ""])
    assert tables.emptied_classes(relabelled) == ["0012"]


def test_dropped_by_counts_train_images_by_their_codes(table):
    out = tables.leave_out(table, table["image_id"] == "a", "01_noise", "noise", "p 0.97")
    out = tables.leave_out(out, table["image_id"] == "b", "01_noise", "noise", "p: 0.91")
    counts = tables.dropped_by(out).set_index(["status", "stage", "by", "cause"])["images"]
    assert counts.to_dict() == {
        ("drop", "01_noise", "rule", "noise"): 2,
        ("keep", "", "web", ""): 1,
    }


def two_versions():
    """A table after an early stage, and one after a later stage that cut the folds."""
    early = tables.new_table(
        pd.DataFrame(
            {
                "image_id": ["a", "b", "c", "d", "t"],
                "path": ["a", "b", "c", "d", "t"],
                "split": ["train"] * 4 + ["test"],
                "given": ["x", "x", "y", "y", ""],
            }
        )
    )
    early["group"] = ["a", "a", "c", "d", "t"]
    late = early.copy()
    late["fold"] = [0, -1, 1, 0, -1]
    late.loc["d", "label"] = "x"
    return early, tables.leave_out(late, late["image_id"] == "b", "02_coarse", "label")


def test_models_of_two_tables_are_judged_by_the_same_images_under_the_same_labels():
    early, late = two_versions()
    for table in (early, late):
        part = tables.hold_out(table, late, 0)
        assert part.loc[part["held_out"], "image_id"].tolist() == ["a", "d"]
        assert part.loc[part["held_out"], "label"].tolist() == ["x", "x"]
    assert part.loc["d", "label"] == "x" and early.loc["d", "label"] == "y"


def test_a_copy_of_a_held_out_image_trains_nobody():
    early, late = two_versions()
    part = tables.hold_out(early, late, 0)
    # "b" is kept in the early table, but it is a copy of "a".
    assert part.loc[part["fit"], "image_id"].tolist() == ["c"]
    assert tables.hold_out(early, late, 1)["fit"].tolist() == [True, True, False, True, False]


def test_fold_minus_one_holds_out_nothing():
    early, late = two_versions()
    part = tables.hold_out(early, late, -1)
    assert not part["held_out"].any() and part["fit"].tolist() == [True] * 4 + [False]


def test_tables_of_unlike_images_have_no_common_folds():
    early, late = two_versions()
    with pytest.raises(ValueError, match="image 't' is in one of the tables"):
        tables.hold_out(early, late[:4], 0)
