"""Posteriors as a file: rows by image, the likeliest class first; spoilt files are named."""

import numpy as np
import pandas as pd
import pytest

from fgvc_utils.contest.posteriors import posterior_rows, read_posteriors, write_posteriors


def test_rows_are_the_likely_classes_of_each_image_in_order(tmp_path):
    columns = np.array([[0, 1, 2], [2, 0, 0], [1, 0, 2]])
    values = np.array([[0.2, 0.7, 0.1], [0.9, 0.0995, 0.0], [0.9995, 0.0005, 0.0]])
    rows = posterior_rows(["a", "b", "c"], ["x", "y"], columns, values)
    # Class 2 stands for "none of them"; a class that is hardly likely is not kept.
    assert rows["image_id"].tolist() == ["a", "a", "b", "c"]
    assert rows["class"].tolist() == ["y", "x", "x", "y"]
    np.testing.assert_allclose(rows["probability"], [0.7, 0.2, 0.0995, 0.9995], rtol=1e-6)
    write_posteriors(rows, tmp_path / "p.parquet")
    pd.testing.assert_frame_equal(
        read_posteriors(tmp_path / "p.parquet"), rows, check_dtype=False, check_exact=True
    )


@pytest.mark.parametrize("broken", ["cut", "column"])
def test_a_spoilt_file_is_named(tmp_path, broken):
    file = tmp_path / "p.parquet"
    rows = posterior_rows(["a"], ["x"], np.array([[0]]), np.array([[1.0]]))
    write_posteriors(rows, file)
    if broken == "cut":
        file.write_bytes(file.read_bytes()[:40])
    else:
        rows.drop(columns="probability").to_parquet(file)
    with pytest.raises(ValueError, match=r"p\.parquet.*run 03_fine again"):
        read_posteriors(file)
