"""Checks of disk and memory."""

import math
import shutil
from functools import cache
from typing import Any

import numpy as np
import psutil

from fgvc_utils.cleaning.search import EXACT
from fgvc_utils.cleaning.views import held_bytes
from fgvc_utils.core import shared_memory
from fgvc_utils.core.files import SPARE_BYTES, in_gigabytes, nearest_existing
from fgvc_utils.core.naming import first_few
from fgvc_utils.core.processes import loader_workers
from fgvc_utils.pipeline.checks.findings import Contest, Findings
from fgvc_utils.pipeline.checks.networks import networks_used
from fgvc_utils.pipeline.stages import STAGES, is_probe
from fgvc_utils.training import backbones, catalogue

# Bytes a pixel of the cache's JPEGs (quality 95, full colour) and height × width / side² of photos,
# where no image was looked at.
JPEG_BYTES = 0.5
# A head takes mean and spread of its features from at most so many images.
STANDARDISED = 40_000
ASPECT = 1.4
# Pictures that a process predicts at once.
PREDICTED = 64


def room_needed(contest: Contest) -> dict[str, int]:
    """What the steps that are not done will write, in bytes, by what it is; a rough estimate.

    Pictures count by those that were looked at; logits, features and scores by their arrays.
    """
    total, test = len(contest.images), contest.count("test")
    classes, half = len(contest.classes), np.dtype(np.float16).itemsize
    needed: dict[str, int] = {}

    def add(what: str, size: float) -> None:
        needed[what] = needed.get(what, 0) + round(size)

    decoded: dict[int, int] = {}
    for step in contest.steps:
        cfg = step.cfg
        if step.stamp.is_file():
            continue
        if STAGES[step.stage].lists_images:
            jpeg = contest.jpeg_bytes or JPEG_BYTES * ASPECT * cfg.cache_side**2
            add("the cache of pictures", total * jpeg)
        probed = getattr(cfg, "start_head", "") == "probe"
        if getattr(cfg, "fit", "") in ("head", "probe") or probed:
            for network in networks_used(cfg):
                # Of the picture and its mirror image.
                add("features", total * 2 * half * feature_width(network.backbone))
        if STAGES[step.stage].makes == "model":
            kept = 1 if is_probe(cfg) else 1 + cfg.feature_views
            values = classes + _widths(cfg) * kept
            add("predictions of models", total * half * values)
            teachers = len(getattr(cfg, "teachers", [])) or len(contest.of("10_train"))
            views = getattr(cfg, "teacher_views", 0)
            add("teachers' predictions on views", teachers * views * total * half * classes)
            shown = cfg.decoded_gb and not is_probe(cfg)
            for ratio in (cfg.train_ratio, cfg.test_ratio) if shown else ():
                side = round(cfg.size * ratio)
                decoded[side] = round(total * 3 * ASPECT * side**2)
            largest = cfg.decoded_gb * 1e9
            needed["decoded pictures"] = round(min(sum(decoded.values()), largest))
        if STAGES[step.stage].makes == "vote":
            add("scores", 2 * test * classes * 4)
    return {what: size for what, size in needed.items() if size}


def _widths(cfg: Any) -> int:
    """Features of all networks of a stage together."""
    return sum(feature_width(network.backbone) for network in networks_used(cfg))


@cache
def feature_width(backbone: str) -> int:
    """Features of a network before its classifier."""
    if not catalogue.on_this_machine(backbone):
        return 1280
    try:
        network = backbones.bare_network(backbone)
        return getattr(network, "head_hidden_size", network.num_features)
    except (RuntimeError, ValueError, TypeError):
        # No such network, which is an error of its own.
        return 1280


def check_room(contest: Contest, found: Findings) -> None:
    """The disk has room for what the run writes."""
    if contest.images is None:
        return
    needed = room_needed(contest)
    total = sum(needed.values())
    free = shutil.disk_usage(nearest_existing(contest.folder)).free
    parts = ", ".join(f"{what} {in_gigabytes(size)}" for what, size in needed.items())
    text = (
        f"about {in_gigabytes(total)} are needed below {contest.folder.parent}"
        f"{f' ({parts})' if parts else ''}, {in_gigabytes(free)} are free"
    )
    found.facts.append(text)
    if total and total + SPARE_BYTES > free:
        found.errors.append(
            f"outputs: {text}, of which {in_gigabytes(SPARE_BYTES)} must stay: free some, set "
            "`outputs` to a larger disk, or choose a smaller cache_side, decoded_gb or "
            "feature_views"
        )


def memory_needed(contest: Contest) -> dict[str, int]:
    """The most that single steps hold in memory, in bytes, by step; rough, without training."""
    total, test, needed = len(contest.images), contest.count("test"), {}
    for step in contest.steps:
        if getattr(step.cfg, "fit", "") in ("head", "probe"):
            width = _widths(step.cfg)
            # A head reads its features in blocks, and some of them at once to standardise: in half
            # precision, and in full.
            fitting = min(total, STANDARDISED) * width * (2 + 4)
            held = 0 if is_probe(step.cfg) else held_bytes(step.cfg)
            needed[step.name] = max(fitting, total * width * held)
        if hasattr(step.cfg, "neighbours"):
            # All features of the first network in half precision, those that are compared in full.
            first = feature_width(step.cfg.backbone)
            compared = min(total, EXACT) * first * 4
            needed[step.name] = max(needed.get(step.name, 0), total * first * 2 + compared)
        if STAGES[step.stage].makes == "submission":
            # Scores, and their copy while they are balanced.
            needed[step.name] = 2 * 4 * test * len(contest.classes)
    return needed


def check_memory(contest: Contest, found: Findings) -> None:
    """The memory that is available holds what single steps need."""
    if contest.images is None:
        return
    available = psutil.virtual_memory().available
    for name, size in memory_needed(contest).items():
        if size > available:
            found.warnings.append(
                f"{name}: it needs about {in_gigabytes(size)} of memory, and "
                f"{in_gigabytes(available)} are available: name fewer backbones, end other "
                "programs, or take a larger machine"
            )


def check_shared_memory(contest: Contest, found: Findings) -> None:
    """The workers' batches fit into shared memory, of which containers have little."""
    if lacks := shared_memory.lacks():
        found.errors.append(
            f"{lacks}, which processes need for their locks: free some of it, make it writable for "
            "you (chmod 1777), or give the container some (docker run --shm-size=1g)"
        )
    free = shared_memory.free_bytes()
    needed = shared_memory_needed(contest)
    small = {name: size for name, size in needed.items() if free is not None and size > free}
    if small:
        found.warnings.append(
            f"{first_few(list(small))}: the processes that prepare pictures would need "
            f"{in_gigabytes(max(small.values()))} of shared memory, and {shared_memory.FOLDER} has "
            f"{in_gigabytes(free)} free, so they take a slower way. Give a container more "
            f"(docker run --shm-size={_whole_gigabytes(max(small.values()))}g; in Kubernetes an "
            f"emptyDir with medium Memory at {shared_memory.FOLDER}), or set fewer workers"
        )


def shared_memory_needed(contest: Contest) -> dict[str, int]:
    """What the workers of all ranks of this machine pass on at once, in bytes, by step."""
    import torch

    needed = {}
    for step in contest.steps:
        cfg = step.cfg
        if not hasattr(cfg, "size"):
            continue
        device = "cuda" if cfg.device != "cpu" and torch.cuda.is_available() else "cpu"
        workers = loader_workers(device, cfg.workers, cfg.processes)
        batch = max(getattr(cfg, "micro_batch", 0), PREDICTED) * 3 * cfg.size**2
        needed[step.name] = cfg.processes * shared_memory.needed_bytes(workers, batch)
    return needed


def _whole_gigabytes(size: int) -> int:
    return max(1, math.ceil(2 * size / 1e9))
