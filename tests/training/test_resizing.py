"""Pictures are resized as the network's own were, when they are learnt from and when predicted."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from small_jobs import small_job
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fgvc_utils.contest.decoded import Decoded, decode_once, decoded_folder
from fgvc_utils.jobs.running import write_job
from fgvc_utils.jobs.views import TEST_VIEWS
from fgvc_utils.training import augment
from fgvc_utils.training.crops import resized_crops
from fgvc_utils.training.material import Material
from fgvc_utils.training.resizing import PLAIN, Resizing, resizing_of

CUBIC = Resizing("bicubic")
SQUASHED = Resizing("bicubic", squash=True)


@pytest.fixture
def picture():
    return torch.randint(0, 256, (3, 90, 120), generator=torch.manual_seed(0), dtype=torch.uint8)


def test_timm_says_how_and_the_networks_that_were_measured_stay_as_they_were():
    assert resizing_of("vit_base_patch32_clip_quickgelu_224.openai") == CUBIC
    assert resizing_of("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k") == SQUASHED
    assert resizing_of("resnet50.tv_in1k") == PLAIN
    for name in ("tf_efficientnet_lite0", "tf_efficientnet_b4", ""):
        assert resizing_of(name) == PLAIN == Resizing("bilinear", squash=False)


def test_views_are_resized_by_the_interpolation_and_squashed_only_at_test(picture):
    cubic = v2.InterpolationMode.BICUBIC
    kept = F.resize(picture, [44], cubic, antialias=True)
    assert torch.equal(augment.test_view(40, 1.1, CUBIC)(picture), F.center_crop(kept, [40]))
    centre = augment.train_view(40, 1.1, random_crop=False, resizing=SQUASHED)
    assert torch.equal(centre(picture), F.center_crop(kept, [40]))
    square = F.resize(picture, [44, 44], cubic, antialias=True)
    assert torch.equal(augment.test_view(40, 1.1, SQUASHED)(picture), F.center_crop(square, [40]))
    crops = resized_crops(TEST_VIEWS["centre"], 40, 1.1, SQUASHED)
    assert torch.equal(crops(picture), F.center_crop(square, [40]))
    plain = augment.test_view(40, 1.1)(picture)
    bilinear = F.resize(picture, [44], antialias=True)
    assert torch.equal(plain, F.center_crop(bilinear, [40]))
    # A crop of a random size is resized by it as well.
    views = []
    for how in (PLAIN, CUBIC):
        torch.manual_seed(1)
        views.append(augment.train_view(40, 1.1, True, 0.3, 1.3, how)(picture))
    assert not torch.equal(*views)


def test_decoded_pictures_lie_apart_by_interpolation_and_differ_by_a_grey_level(tmp_path, picture):
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(picture.permute(1, 2, 0)), quality=95)
    (tmp_path / "a.jpg").write_bytes(data)
    cached = augment.to_tensor(simplejpeg.decode_jpeg(data))
    read = {}
    for how in ("bilinear", "bicubic"):
        folder = decode_once(["a.jpg"], tmp_path, 44, how)
        assert folder == decoded_folder(tmp_path, 44, how)
        read[how] = Decoded(folder).read("a.jpg").astype(int)
        wanted = F.resize(cached, [44], v2.InterpolationMode(how), antialias=True)
        assert np.abs(read[how] - wanted.permute(1, 2, 0).numpy()).max() <= 1
    assert decoded_folder(tmp_path, 44).name == "44" and (read["bilinear"] != read["bicubic"]).any()


def test_a_job_reads_the_pictures_that_its_network_was_made_for(tmp_path, picture):
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(picture.permute(1, 2, 0)), quality=95)
    (tmp_path / "a.jpg").write_bytes(data)
    cached = augment.to_tensor(simplejpeg.decode_jpeg(data))
    row = {"image_id": "a", "file": str(tmp_path / "a.jpg"), "target": "ant", "label": ""}
    rows = pd.DataFrame([row]).assign(fit=True, validate=False, predict=True)
    for side in (40, 46):
        # What was resized otherwise is left alone.
        decode_once(["a.jpg"], tmp_path, side)
    for name, how in (("test_vit", CUBIC), ("convnext_tiny.fb_in22k_ft_in1k_384", SQUASHED)):
        settings = {"test_ratio": 1.25, "train_ratio": 1.45, "decoded": str(tmp_path)}
        job = small_job(tmp_path / name, backbone=name, fit="none", **settings)
        write_job(job, rows)
        seen, _ = Material(job).test_set().__getitems__([(0, 0)])
        assert torch.equal(seen[0], augment.test_view(32, 1.25, how)(cached))


def test_a_notebook_asks_without_loading_torch():
    code = """if True:
        import sys
        from fgvc_utils.training.resizing import resizings
        if __name__ == "__main__":
            found = resizings(["tf_efficientnet_lite0", "test_vit"])
            assert found["test_vit"].interpolation == "bicubic", found
            assert found["tf_efficientnet_lite0"].interpolation == "bilinear", found
            assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
