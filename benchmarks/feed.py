"""Pictures a second on one core, from files to batches, beside timm's and torchvision's loaders.

`python benchmarks/feed.py [--sizes 160 224 380] [--images 256] [--passes 5] [--folder FOLDER]`
takes photos of grocery-web as they are (`--data` names another contest) and feeds them in batches
of 32, in one process and thread, by each of these:

- ours raw, cached, decoded: `feed.Pictures` from the raw files, from the JPEGs of the cache (as 01
  makes it for the size: 1.35 × size), and from decoded pictures (1.15 × size).
- timm: `create_loader`, uint8 batches before they are normalised. For the plain recipe with its own
  random resized crop and flip; `timm default` adds its own colour jitter. For the whole recipe with
  ours, on a tensor made of Pillow's picture.
- imagefolder: torchvision's `ImageFolder` and a DataLoader, transforms of v2 as far as it has them.
- decode only: the JPEGs of the cache through simplejpeg, no transform: the limit without `decoded`.

The plain recipe is random crop and flip; the whole one is all changes at the defaults of
10_train, quarter turns and tile shuffles switched on. Time is CPU time, user and system; passes go
round, so that what else the machine does meets all alike, and medians are shown; a ratio is the
median of the passes' ratios. Files are read once before, so disks play no part. A second table
tells what each step costs. Last line: JSON, dicts by size; the ratios are ours decoded / timm.
"""

import argparse
import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
import torch
from allocator import keep_memory
from PIL import Image
from timm.data import ImageDataset, create_loader
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from fgvc_utils.contest import decoding, images
from fgvc_utils.contest.decoded import Decoded, decode_once
from fgvc_utils.contest.listing import list_images
from fgvc_utils.contest.places import data_root
from fgvc_utils.contest.presets import preset_values
from fgvc_utils.training import augment
from fgvc_utils.training.changes import CHANGES, parameter_types
from fgvc_utils.training.feed import Changes, GlobalBatches, Pictures, Targets, as_it_is, stack

BATCH = 32
TRAIN_RATIO, TEST_RATIO = 1.15, 1.35
PLAIN = {"flip_probability": 0.5}
ORIGINAL = preset_values("original", parameter_types())
WHOLE = {name: ORIGINAL[name] for name in parameter_types()} | PLAIN
WHOLE |= {"quarter_turn_probability": 0.25, "shuffle_probability": 0.2}
MIX_PROBABILITY = 0.5
RECIPES = {"plain": PLAIN, "recipe": WHOLE}

Pass = Callable[[], None]


class Raw:
    """Raw files in the place of decoded pictures: `decoding.decode` of each."""

    def __contains__(self, file: str) -> bool:
        return True

    def read(self, file: str) -> np.ndarray:
        return decoding.decode(Path(file).read_bytes())[0]


class Photos:
    """Readable photos at one size: raw, in a cache, decoded, and as a folder a class."""

    def __init__(self, root: Path, chosen: pd.DataFrame, folder: Path, size: int) -> None:
        self.size = size
        cache = folder / f"cache-{size}"
        taken = images.take_in(chosen, root, cache, round(TEST_RATIO * size))
        readable = taken["error"] == ""
        raw, labels = chosen.loc[readable, "path"], chosen.loc[readable, "given"]
        self.raw = [str(root / path) for path in raw]
        self.cached = [str(cache / name) for name in taken.loc[readable, "cached"]]
        side = round(TRAIN_RATIO * size)
        self.decoded = Decoded(decode_once(self.cached, cache, side))
        codes, classes = pd.factorize(labels)
        self.targets = Targets(codes, len(classes))
        self.tree = folder / f"photos-{size}"
        shutil.rmtree(self.tree, ignore_errors=True)
        for number, (file, code) in enumerate(zip(self.raw, codes, strict=True)):
            link = self.tree / f"{code:04d}" / f"{number:05d}{Path(file).suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)


def drain(batches: DataLoader) -> None:
    """One pass; each batch is taken as far as the device that would train on it."""
    for _ in batches:
        pass


def ours(photos: Photos, recipe: str, source: str) -> Pass:
    """A pass of `feed.Pictures` from raw, cached or decoded pictures."""
    files = photos.raw if source == "raw" else photos.cached
    changes = Changes(
        augment.random_changes(RECIPES[recipe]),
        seed=0,
        mix="none" if recipe == "plain" else "cutmix",
        mix_probability=MIX_PROBABILITY,
    )
    view = augment.train_view(photos.size, TRAIN_RATIO)
    decoded = {"raw": Raw(), "cached": None, "decoded": photos.decoded}[source]
    pictures = Pictures(files, photos.targets, view, 0, changes, decoded=decoded)
    batches = GlobalBatches(np.arange(len(files)), BATCH, 1, 1, 0, seed=0)
    return partial(drain, DataLoader(pictures, batch_sampler=batches, collate_fn=as_it_is))


def from_pillow(change: augment.Transform, picture: Image.Image) -> torch.Tensor:
    """Our recipe on a picture that another loader opened."""
    return change(augment.to_tensor(np.array(picture)))


def mixed(mix: Callable, classes: int, items: list[tuple[torch.Tensor, int]]) -> tuple:
    """Collate pictures and class numbers, then mix the batch with its own probability."""
    pictures = torch.stack([picture for picture, _ in items])
    labels = torch.tensor([label for _, label in items])
    return mix(pictures, torch.nn.functional.one_hot(labels, classes).float())


def timm_loader(photos: Photos, recipe: str, jitter: float | None = None) -> Pass:
    """A pass of timm's loader: its own crop and flip, or our whole recipe with CutMix."""
    dataset = ImageDataset(str(photos.tree))
    collate = None
    if recipe == "recipe":
        mix = partial(augment.mix_batch, kind="cutmix", probability=MIX_PROBABILITY)
        collate = partial(mixed, mix, photos.targets.classes)
    loader = create_loader(
        dataset,
        input_size=(3, photos.size, photos.size),
        batch_size=BATCH,
        is_training=True,
        color_jitter=jitter,
        num_workers=0,
        persistent_workers=False,
        collate_fn=collate,
        device=torch.device("cpu"),
    )
    if recipe == "recipe":
        view = augment.train_view(photos.size, TRAIN_RATIO)
        change = v2.Compose([view, augment.random_changes(WHOLE)])
        dataset.transform = partial(from_pillow, change)
    # Without the prefetcher, which normalises: ours leaves that to the device too.
    return partial(drain, loader.loader)


def image_folder(photos: Photos, recipe: str) -> Pass:
    """A pass of torchvision's ImageFolder, with v2 transforms where it has the change."""
    size = photos.size
    steps = [v2.PILToTensor(), v2.Resize(round(TRAIN_RATIO * size)), v2.RandomCrop(size)]
    steps.append(v2.RandomHorizontalFlip(WHOLE["flip_probability"]))
    collate = None
    if recipe == "recipe":
        paste = [v2.RandomZoomOut(fill=128, side_range=(1.0, 2.5), p=1.0), v2.Resize((size, size))]
        quality = augment.RandomQuality(WHOLE["quality_low"], WHOLE["quality_high"])
        jpeg = v2.JPEG((WHOLE["jpeg_low"], WHOLE["jpeg_high"]))
        steps += [
            v2.RandomApply([v2.Lambda(augment.QuarterTurn())], WHOLE["quarter_turn_probability"]),
            v2.RandomApply(paste, WHOLE["paste_probability"]),
            v2.RandomApply([v2.Lambda(augment.GridShuffle(4))], WHOLE["shuffle_probability"]),
            v2.ColorJitter(*[WHOLE["colour_jitter"]] * 3),
            v2.RandomApply([v2.Lambda(quality)], WHOLE["quality_probability"]),
            v2.RandomApply([jpeg], WHOLE["jpeg_probability"]),
        ]
        mixes = [v2.CutMix(num_classes=photos.targets.classes), v2.Identity()]
        mix = v2.RandomChoice(mixes, [MIX_PROBABILITY, 1 - MIX_PROBABILITY])
        collate = partial(mixed, mix, photos.targets.classes)
    dataset = ImageFolder(str(photos.tree), v2.Compose(steps))
    return partial(
        drain, DataLoader(dataset, BATCH, shuffle=True, drop_last=True, collate_fn=collate)
    )


def decode_only(photos: Photos) -> None:
    """A pass of the bare decoder, over as many pictures as the loaders give."""
    for file in photos.cached[: whole_batches(photos)]:
        images.read_cached(file)


def whole_batches(photos: Photos) -> int:
    """Images of a pass: all loaders drop what does not fill a batch."""
    return len(photos.cached) // BATCH * BATCH


def seconds(one_pass: Pass) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    one_pass()
    return time.process_time() - start


def measure(photos: Photos, passes: int) -> pd.DataFrame:
    """Images a second: a row a pass, a column each way of feeding; passes go round."""
    ways: dict[tuple[str, str], Pass] = {("decode only", ""): partial(decode_only, photos)}
    ways["timm default", "plain"] = timm_loader(photos, "plain", jitter=0.4)
    for recipe in RECIPES:
        for source in ("raw", "cached", "decoded"):
            ways[f"ours {source}", recipe] = ours(photos, recipe, source)
        ways["timm", recipe] = timm_loader(photos, recipe)
        ways["imagefolder", recipe] = image_folder(photos, recipe)
    for one_pass in ways.values():
        one_pass()
    count = whole_batches(photos)
    rows = [
        {way: count / seconds(one_pass) for way, one_pass in ways.items()} for _ in range(passes)
    ]
    return pd.DataFrame(rows)


def each_of(step: Callable, inputs: Sequence) -> None:
    """Take a step with each of its inputs."""
    for one in inputs:
        step(one)


def by_pillow(data: bytes) -> np.ndarray:
    """How the other loaders open a file."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def costs(photos: Photos, passes: int) -> dict[str, float]:
    """ms an image of each step alone, on all photos; a random change where it happens."""
    raw = [Path(file).read_bytes() for file in photos.raw]
    jpegs = [Path(file).read_bytes() for file in photos.cached]
    small = [augment.to_tensor(simplejpeg.decode_jpeg(jpeg)) for jpeg in jpegs]
    side = round(TRAIN_RATIO * photos.size)
    resized = [v2.functional.resize(picture, [side], antialias=True) for picture in small]
    crop = v2.RandomCrop(photos.size)
    crops = list(stack([crop(picture) for picture in resized]))
    resize = v2.Resize(side, antialias=True)
    steps: dict[str, tuple[Callable, Sequence]] = {
        "Pillow, raw": (by_pillow, raw),
        "decode raw": (decoding.decode, raw),
        "decode JPEG": (simplejpeg.decode_jpeg, jpegs),
        "read decoded": (photos.decoded.read, photos.cached),
        "resize": (resize, small),
        "crop": (crop, resized),
    }
    for name, settings in single_changes().items():
        steps[name] = (augment.random_changes(settings), crops)
    targets = torch.eye(BATCH)
    batches = [stack(crops[i : i + BATCH]) for i in range(0, whole_batches(photos), BATCH)]
    steps["stack"] = (stack, [list(batch) for batch in batches])
    mix = partial(augment.mix_batch, targets=targets, kind="cutmix", probability=1.0)
    steps["CutMix"] = (mix, batches)
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(passes):
        for name, (step, inputs) in steps.items():
            each = 1 if len(inputs) == len(crops) else BATCH
            took = seconds(partial(each_of, step, inputs))
            found[name].append(1000 * took / len(inputs) / each)
    return {name: statistics.median(times) for name, times in found.items()}


def single_changes() -> dict[str, dict[str, float]]:
    """Each change of the recipe alone, always made, by its name on the sheet."""
    return {
        change.name: {change.switch: 1.0} | {name: WHOLE[name] for name in change.strengths}
        for change in CHANGES
    }


def summary(measured: pd.DataFrame, recipe: str) -> dict[str, float]:
    """Median images a second by way of feeding, under one recipe."""
    columns = [column for column in measured if column[1] == recipe]
    return {way: float(measured[way, recipe].median()) for way, _ in columns}


def ratio(measured: pd.DataFrame, recipe: str, one: str, other: str) -> float:
    """Median over the passes of how many times as fast one way is as another."""
    return float((measured[one, recipe] / measured[other, recipe]).median())


def report(size: int, measured: pd.DataFrame, cost: dict[str, float]) -> dict[str, Any]:
    """Print both tables of one size; returns its figures by key of the JSON."""
    limit = float(measured["decode only", ""].median())
    by_recipe = {recipe: summary(measured, recipe) for recipe in RECIPES}
    print(f"\n{size} px: images a second on one core")
    print(f"{'':<16}{'plain':>10}{'recipe':>10}")
    for way in by_recipe["plain"]:
        rates = [by_recipe[recipe].get(way) for recipe in RECIPES]
        plain, whole = ["–" if rate is None else f"{rate:.0f}" for rate in rates]
        print(f"{way:<16}{plain:>10}{whole:>10}")
    print(f"{'decode only':<16}{limit:>10.0f}")
    figures: dict[str, Any] = {"decode_only": round(limit, 1)}
    for recipe in RECIPES:
        for source in ("decoded", "cached", "raw"):
            key = f"ratio_{recipe}" + ("" if source == "decoded" else f"_{source}")
            figures[key] = round(ratio(measured, recipe, f"ours {source}", "timm"), 2)
            print(f"ours {source} / timm, {recipe}: {figures[key]:.2f}")
    for way in ("ours raw", "ours cached", "ours decoded", "timm", "timm default", "imagefolder"):
        rates = {recipe: by_recipe[recipe].get(way) for recipe in RECIPES}
        figures[way.replace(" ", "_")] = {r: round(v, 1) for r, v in rates.items() if v}
    print(f"\n{size} px: ms an image of each step, a change where it happens")
    for name, value in cost.items():
        print(f"{name:<16}{value:>10.3f}")
    figures["ms"] = {name: round(value, 4) for name, value in cost.items()}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 224, 380], help="px")
    parser.add_argument("--images", type=int, default=256, help="photos that are tried")
    parser.add_argument("--passes", type=int, default=5, help="over all photos, each way")
    parser.add_argument("--data", default="grocery-web", help="contest whose train photos are fed")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary one")
    options = parser.parse_args()
    if options.images < 2 * BATCH:
        parser.error(f"--images {options.images}: at least {2 * BATCH}, for there are batches")
    keep_memory()
    torch.set_num_threads(1)
    root = data_root(options.data)
    listed = list_images(root, "train", "")
    places = np.linspace(0, len(listed) - 1, min(options.images, len(listed))).astype(int)
    chosen = listed.iloc[places].reset_index(drop=True)
    figures: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        for size in options.sizes:
            photos = Photos(root, chosen, folder, size)
            found = report(size, measure(photos, options.passes), costs(photos, options.passes))
            for key, value in found.items():
                figures.setdefault(key, {})[size] = value
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
