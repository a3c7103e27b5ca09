"""Several test-time views of a picture: which crops they are, and how they are averaged."""

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from small_jobs import CLASSES, draw_pictures, small_job
from torchvision.transforms.v2 import functional as F

from fgvc_utils.answers.members import view_job
from fgvc_utils.answers.params import EnsembleParams
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import Store, softmax
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.jobs.views import TEST_VIEWS
from fgvc_utils.training import augment
from fgvc_utils.training.crops import Crops
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network, without_prior
from fgvc_utils.training.predicting import log_mean_softmax
from fgvc_utils.training.worker import carry_out


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    drawn = draw_pictures(tmp_path_factory.mktemp("pictures"), 48)
    return drawn.assign(fit=np.arange(48) < 32, validate=np.arange(48) >= 32)


@pytest.fixture(scope="module")
def model(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("models") / "one"
    return done(small_job(folder, balance="prior", keep=["logits", "features"]), rows)


def done(job: Job, rows: pd.DataFrame) -> Job:
    torch.set_num_threads(1)
    write_job(job, rows)
    carry_out(job, Processes(), Progress(None))
    return job


def test_crops_are_the_centre_the_corners_and_their_mirror_images():
    picture = torch.arange(3 * 6 * 8, dtype=torch.uint8).reshape(3, 6, 8)
    views = Crops(TEST_VIEWS["crops"], 4)(picture).reshape(10, 3, 4, 4)
    corners = [picture[:, :4, :4], picture[:, :4, 4:], picture[:, 2:, :4], picture[:, 2:, 4:]]
    for view, expected in zip(views[:5], [picture[:, 1:5, 2:6], *corners], strict=True):
        assert torch.equal(view, expected)
    assert torch.equal(views[5:], views[:5].flip(-1))
    assert torch.equal(Crops(TEST_VIEWS["flip"], 4)(picture), views[[0, 5]].flatten(0, 1))
    centre = Crops(TEST_VIEWS["centre"], 4)(picture)
    assert torch.equal(centre, augment.test_view(4, 1.5)(picture))


@pytest.mark.parametrize("size", [4, 5])
def test_the_first_crop_of_each_view_is_the_one_whose_features_are_kept(size):
    picture = torch.arange(3 * 8 * 11, dtype=torch.uint8).reshape(3, 8, 11)
    for view in TEST_VIEWS.values():
        crops = Crops(view, size)(picture)
        assert crops.shape == (3 * view.crops, size, size)
        assert torch.equal(crops[:3], F.center_crop(picture, [size, size]))


def test_the_records_take_the_views_that_are_registered_and_no_other():
    own = {"name": "n", "folder": "f", "rows": "r", "classes": ["a"], "fit": "none"}
    for record, field, others in ((Job, "test_time", own), (EnsembleParams, "test_views", {})):
        assert get_args(record.model_fields[field].annotation) == tuple(TEST_VIEWS)
        with pytest.raises(ValueError, match=f"{field}(.|\n)*'centre', 'flip' or 'crops'"):
            record(**others, **{field: "corners"})


def test_probabilities_are_averaged_and_one_view_stays():
    one = torch.tensor([[2.0, 0.0, -1e4]])
    other = torch.tensor([[0.0, 1.0, -1e4]])
    assert log_mean_softmax([one]) is one
    mean = (one.softmax(1) + other.softmax(1)) / 2
    together = log_mean_softmax([one, other])
    torch.testing.assert_close(together.softmax(1), mean)
    assert together.isfinite().all() and together[0, 2] < -9e3, "a masked class stays out"


def test_flip_is_the_mean_softmax_of_an_image_and_its_mirror_image(model: Job, rows: pd.DataFrame):
    asked = rows.loc[~rows["fit"], "image_id"]
    job, asked_rows = view_job(Path(model.folder), "flip", asked)
    assert job.store == Path(model.folder) / "views-of-test" / "flip" / "predictions"
    flip = Store(done(job, asked_rows).store)
    material = Material(job)
    network = new_network(job, material).eval()
    probabilities = []
    for mirrored in (False, True):
        pictures = material.test_pictures(mirrored=mirrored)
        batch, _ = pictures.__getitems__([(0, row) for row in material.predict_rows])
        with torch.no_grad():
            logits = without_prior(network(batch), network, job)
        probabilities.append(logits.softmax(dim=1).numpy())
    assert np.abs(probabilities[0] - probabilities[1]).max() > 5e-3
    np.testing.assert_allclose(flip.probabilities(asked), np.mean(probabilities, 0), atol=2e-3)
    plain = Store(model.store).probabilities(asked)
    np.testing.assert_allclose(plain, probabilities[0], atol=2e-3)


def test_crops_say_something_else_than_the_centre_and_the_centre_the_same(
    model: Job, rows: pd.DataFrame
):
    asked = rows.loc[~rows["fit"], "image_id"]
    plain = Store(model.store).read("logits", asked)
    crops = Store(done(*view_job(Path(model.folder), "crops", asked)).store)
    assert np.abs(softmax(plain) - crops.probabilities(asked)).max() > 1e-3
    centre = Store(done(*view_job(Path(model.folder), "centre", asked)).store)
    np.testing.assert_allclose(centre.read("logits", asked), plain, atol=2e-3)
    assert centre.classes == CLASSES and set(centre.image_ids) == set(asked)


def test_a_model_without_weights_and_a_strange_image_are_named(model: Job, tmp_path: Path):
    with pytest.raises(KeyError, match="'one' has no row of image 'i9'"):
        view_job(Path(model.folder), "flip", pd.Series(["i9"]))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "job.json").write_text(model.model_dump_json())
    with pytest.raises(FileNotFoundError, match="keeps no weights.safetensors"):
        view_job(bare, "flip", pd.Series(["000"]))
