"""Averages of weights: identities, what does not go together, and statistics taken anew."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file
from small_jobs import CLASSES, draw_pictures, small_job

from fgvc_utils.answers import members
from fgvc_utils.answers.members import soup_job, soups
from fgvc_utils.core.files import read_json
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.done import is_done
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job, read_job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.averaging import average_weights, greedy_soup
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network
from fgvc_utils.training.recipes import as_trained
from fgvc_utils.training.renewing import renew_statistics
from fgvc_utils.training.worker import carry_out

KINDS = {"one": {}, "two": {"base_lr": 0.02}, "wider": {"size": 40}}
TOLD = {"classes": "ant\nbee", "backbone": "test_efficientnet"}


def stored(folder: Path, tensors: dict[str, np.ndarray], **told: str) -> Path:
    folder.mkdir(parents=True)
    save_file(tensors, folder / "weights.safetensors", metadata=TOLD | told)
    return folder / "weights.safetensors"


def done(job: Job, rows: pd.DataFrame) -> Job:
    torch.set_num_threads(1)
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    return job


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    drawn = draw_pictures(tmp_path_factory.mktemp("pictures"), 64)
    return drawn.assign(fit=np.arange(64) < 48, validate=np.arange(64) >= 48)


@pytest.fixture(scope="module")
def models(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models with BatchNorm from one start, and one of another kind."""
    folder = tmp_path_factory.mktemp("models")
    kinds = {name: {"backbone": "test_efficientnet", **kind} for name, kind in KINDS.items()}
    keep = ["logits", "features"]
    jobs = [done(small_job(folder / n, epochs=1, keep=keep, **k), rows) for n, k in kinds.items()]
    return [Path(job.folder) for job in jobs]


def test_the_average_of_equal_weights_is_the_same(tmp_path: Path):
    random = np.random.default_rng(0)
    weights = {"a": random.normal(size=(3, 4)).astype(np.float32), "n": np.array(7)}
    files = [stored(tmp_path / str(n), weights) for n in range(3)]
    average = load_file(average_weights(files, tmp_path / "mean"))
    for name, tensor in weights.items():
        assert np.array_equal(average[name], tensor) and average[name].dtype == tensor.dtype


def test_the_average_is_the_mean(tmp_path: Path):
    one = stored(tmp_path / "1", {"a": np.float32([1, 2]), "n": np.array(3)})
    two = stored(tmp_path / "2", {"a": np.float32([3, 6]), "n": np.array(5)})
    average = load_file(average_weights([one, two], tmp_path / "mean"))
    assert average["a"].tolist() == [2, 4] and average["n"] == 3


@pytest.mark.parametrize(
    ("tensors", "told", "said"),
    [
        ({"a": np.float32([1, 2])}, {"classes": "ant\ncat"}, "differ in their classes"),
        ({"a": np.float32([1, 2])}, {"backbone": "other"}, "differ in their backbone"),
        ({"a": np.float32([1])}, {}, "differ in the tensor 'a'"),
        ({"a": np.float32([1, 2]), "b": np.float32([1])}, {}, "differ in the tensor 'b'"),
    ],
)
def test_weights_that_do_not_go_together_are_named(tmp_path: Path, tensors, told, said):
    one = stored(tmp_path / "1", {"a": np.float32([1, 2])})
    with pytest.raises(ValueError, match=f"1/weights.safetensors and .*2/weights.*{said}"):
        average_weights([one, stored(tmp_path / "2", tensors, **told)], tmp_path / "mean")
    assert not (tmp_path / "mean" / "weights.safetensors").exists()


def test_a_greedy_soup_takes_what_does_not_lower_the_score():
    scores = {"a": 0.5, "ab": 0.4, "ac": 0.5, "acd": 0.7}
    assert greedy_soup(list("abcd"), lambda names: scores["".join(names)]) == list("acd")
    assert greedy_soup(["a"], lambda names: 0.0) == ["a"]


def test_statistics_taken_anew_are_those_of_the_train_images(
    models: list[Path], rows: pd.DataFrame, tmp_path: Path
):
    """The first BatchNorm's, worked out from the convolution before it, all images at once."""
    job = read_job(models[0] / "job.json")
    changes = {"folder": str(tmp_path), "rows": str(tmp_path / "rows.parquet")}
    job = job.model_copy(update=as_trained(job) | changes)
    write_job(job, rows)
    material = Material(job)
    network = new_network(job, material)
    before = network.body.bn1.running_mean.clone()
    renew_statistics(job, material, network, Processes(), Progress(None))
    items = [(0, int(row)) for row in material.fit_rows]
    pictures = material.train_pictures().__getitems__(items)[0]
    with torch.no_grad():
        out = network.body.conv_stem(network._normalised(pictures))
    norm = network.body.bn1
    torch.testing.assert_close(norm.running_mean, out.mean((0, 2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(norm.running_var, out.var((0, 2, 3)), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(before, norm.running_mean, atol=1e-3)
    assert not norm.training and norm.momentum == 0.1


def test_a_soup_is_a_model_whose_weights_are_the_mean(
    models: list[Path], rows: pd.DataFrame, tmp_path: Path
):
    labels = rows[rows["validate"]].set_index("image_id")["target"]
    job = done(*soup_job(tmp_path / "soup", models[:2], labels))
    assert is_done(job), "its digest hangs on nothing that it writes itself"
    one, two, soup = (load_file(f / "weights.safetensors") for f in (*models[:2], job.store.parent))
    weight = "body.classifier.weight"
    np.testing.assert_allclose(soup[weight], (one[weight] + two[weight]) / 2, rtol=1e-6)
    store = Store(job.store)
    assert set(store.image_ids) == set(rows["image_id"]) and store.kinds() == ["features", "logits"]
    logits = store.read("logits", labels.index)
    truth = [CLASSES.index(label) for label in labels]
    figures = read_json(job.store.parent / "done.json")["figures"]
    assert figures["n"] == 16
    assert figures["top1"] == pytest.approx((logits.argmax(axis=1) == truth).mean())


def test_models_of_other_kinds_or_trained_on_what_judges_make_no_soup(
    models: list[Path], rows: pd.DataFrame, tmp_path: Path
):
    held_out = rows[rows["validate"]].set_index("image_id")["target"]
    with pytest.raises(ValueError, match="'one' and 'wider' differ in size"):
        soup_job(tmp_path / "soup", [models[0], models[2]], held_out)
    with pytest.raises(ValueError, match="'one' was trained on 48 of the 64"):
        soup_job(tmp_path / "soup", models[:2], rows.set_index("image_id")["target"])


@pytest.mark.parametrize("soup", ["none", "uniform", "greedy"])
def test_each_kind_of_network_makes_a_soup(
    models: list[Path],
    rows: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    soup,
    capsys,
):
    monkeypatch.setattr(members, "run_jobs", lambda jobs, *_: [done(job, r) for job, r in jobs])
    labels = rows[rows["validate"]].set_index("image_id")["target"]
    cfg, single = SimpleNamespace(soup=soup, folder=tmp_path), dict.fromkeys(KINDS, 0.0)
    made = soups(cfg, "30", models, labels, single)
    said = capsys.readouterr().out
    assert ("soup-2: left out, no two models of wider's kind" in said) == (soup != "none")
    if soup == "greedy":
        assert len(list((tmp_path / "soups" / "soup-1" / "tried").iterdir())) == 2
    if soup == "uniform":
        assert list(made) == ["soup-1"] and "the mean of one, two" in said
        assert Store(made["soup-1"] / "predictions").classes == CLASSES
        assert soups(cfg, "30", models, labels, dict.fromkeys(KINDS, 1.1)) == {}
        assert "soup-1: left out, its held-out top-1 of" in capsys.readouterr().out
    if soup == "none":
        assert made == {}
