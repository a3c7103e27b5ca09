"""A model as one ONNX file: it answers as the run does, without any other part of the kit."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_run import CLASSES, TESTS

from fgvc_utils.jobs.predictions import Store
from fgvc_utils.sharing import network_file, onnx_reader

FILES = ("onnx", "onnxruntime", "onnxscript")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["one", "probe"])
def test_the_file_answers_as_the_run_does(run, made, tmp_path, model, capsys):
    for name in FILES:
        pytest.importorskip(name)
    file = network_file.export_network(run, model, tmp_path)
    # The refit of the one answers test images.
    folder = made.folder / "models" / model / ("refit" if model == "one" else "")
    store = Store(folder / "predictions")
    photos = [run.root / "test" / f"{number}.jpg" for number in range(TESTS)]
    stored = store.probabilities([f"test/{photo.name}" for photo in photos])
    session, metadata = onnx_reader.opened(str(file))
    assert json.loads(metadata["classes"]) == CLASSES and metadata["model"] == model
    # As the kit prepares them, at once: the batch may be of any size.
    inventory = run.inventory.set_index("path").loc[[f"test/{photo.name}" for photo in photos]]
    shown = np.stack([onnx_reader.picture(path, metadata) for path in inventory["file"]])
    [given] = session.run(None, {"pictures": shown})
    assert given.shape == (TESTS, len(CLASSES))
    assert np.abs(given - stored).max() < 0.02
    assert f"{tmp_path / model}.onnx" in capsys.readouterr().out
    # From the raw photos, by the script beside it; what is no photo has a reason.
    asked = [sys.executable, tmp_path / "predict_onnx.py", file, *photos, Path(__file__)]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path)
    rows = list(csv.reader(done.stdout.splitlines()))
    assert len(rows) == TESTS + 1 and "UnidentifiedImageError" in rows[-1][-1], done.stderr
    # A JPEG less than the run's pictures, so nearly the same.
    assert np.abs(float(rows[0][2]) - stored[0].max()) < 0.1


def test_a_missing_package_names_the_extra(run, monkeypatch, tmp_path):
    monkeypatch.setattr(network_file, "PACKAGES", ("no_such_package",))
    with pytest.raises(ImportError, match=r"no_such_package.*fgvc-kit\[export\]"):
        network_file.export_network(run, "one", tmp_path)


@pytest.mark.slow
def test_a_file_that_answers_otherwise_is_not_kept(run, monkeypatch, tmp_path):
    for name in FILES:
        pytest.importorskip(name)
    monkeypatch.setattr(network_file, "_apart", lambda *of: 0.5)
    with pytest.raises(RuntimeError, match="0.5 off the network"):
        network_file.export_network(run, "one", tmp_path)
    assert not list(tmp_path.iterdir())
