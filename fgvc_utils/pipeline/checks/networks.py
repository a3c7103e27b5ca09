"""Checks of networks, weights, batches and the device."""

from functools import cache
from typing import Any

from fgvc_utils.contest.parameters import ParameterError, accumulation
from fgvc_utils.core.naming import first_quoted
from fgvc_utils.jobs.running import hardware
from fgvc_utils.pipeline.checks.findings import Contest, Findings
from fgvc_utils.pipeline.stages import STAGES
from fgvc_utils.training import backbones
from fgvc_utils.training.angular import set_angular
from fgvc_utils.training.probes import frozen_backbones


def check_networks(contest: Contest, found: Findings) -> None:
    """Backbones are known, their weights are there and fit, and pictures are large enough."""
    unfit: dict[str, list[str]] = {}
    hub: dict[str, None] = {}
    for step in contest.steps:
        cfg = step.cfg
        if not hasattr(cfg, "backbone"):
            continue
        for name in backbones_of(cfg):
            if problem := _network_problem(name, cfg.weights):
                unfit.setdefault(problem, []).append(step.name)
            elif cfg.weights == "hub" and not _on_this_machine(name):
                hub[name] = None
        angular = getattr(cfg, "classifier", "") == "arcface" and not is_probe(cfg)
        known = not _network_problem(cfg.backbone, cfg.weights)
        if angular and known and (problem := _angular_problem(cfg.backbone)):
            unfit.setdefault(problem, []).append(step.name)
        _picture_sizes(contest, step, found)
    found.errors += [f"{', '.join(names)}: {problem}" for problem, names in unfit.items()]
    if hub:
        found.warnings.append(
            f"weights hub of {first_quoted(list(hub))} are not on this machine yet: they are "
            "downloaded when they are first used, which needs a connection"
        )


def backbones_of(cfg: Any) -> list[str]:
    """All networks of a stage, each once."""
    if is_probe(cfg):
        return frozen_backbones(cfg)
    named = [cfg.backbone, *getattr(cfg, "further_backbones", [])]
    named += [name for recipe in getattr(cfg, "rounds", []) for name in recipe.backbones]
    return list(dict.fromkeys(named))


def is_probe(cfg: Any) -> bool:
    """Whether a stage's parameters ask for a probe, which is shown no picture."""
    return getattr(cfg, "fit", "") == "probe"


@cache
def _network_problem(name: str, weights: str) -> str:
    try:
        backbones.check_network(name, weights)
        backbones.check_weights_file(name, weights)
    except ValueError as error:
        return str(error)
    return ""


@cache
def _angular_problem(name: str) -> str:
    try:
        set_angular(backbones.bare_network(name), 1, 1.0)
    except ValueError as error:
        return str(error)
    return ""


def _on_this_machine(name: str) -> bool:
    """Whether timm's own weights were downloaded before; true where that is not known."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    pretrained = timm.get_pretrained_cfg(name)
    source = getattr(pretrained, "hf_hub_id", None)
    if not source:
        return True
    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(source, file), str) for file in files)


def _picture_sizes(contest: Contest, step: Any, found: Findings) -> None:
    """The cache holds pictures as large as a stage looks at."""
    for first in contest.of("01_noise"):
        names = ("test_ratio",) if is_probe(step.cfg) else ("train_ratio", "test_ratio")
        ratios = [getattr(step.cfg, name, 1.0) for name in names]
        wanted = round(step.cfg.size * max(ratios))
        if wanted > first.cfg.cache_side:
            found.warnings.append(
                f"{step.name}: looks at pictures of {wanted} px, but cache_side keeps "
                f"{first.cfg.cache_side}, so they are enlarged; set cache_side to at least {wanted}"
            )


def check_batches(contest: Contest, found: Findings) -> None:
    """Each global batch can be cut up, and there are as many images as it takes."""
    train, uncut = contest.count("train"), {}
    for step in contest.steps:
        cfg = step.cfg
        if not hasattr(cfg, "global_batch") or is_probe(cfg):
            continue
        try:
            accumulation(cfg.global_batch, cfg.micro_batch, cfg.processes * cfg.nodes)
        except ParameterError as error:
            uncut.setdefault(str(error), []).append(step.name)
        if not train or STAGES[step.stage].makes not in ("model", "vote"):
            continue
        labelled = train
        if cfg.held_out_fold >= 0 and contest.folds:
            labelled = train - train // contest.folds
        unlabelled = contest.count("test") if getattr(cfg, "variant", "") == "A" else 0
        if cfg.global_batch > labelled + unlabelled:
            found.errors.append(
                f"{step.name}: global_batch {cfg.global_batch} is larger than the "
                f"{labelled + unlabelled} images that it can learn from at most; make it smaller"
            )
    found.errors += [f"{', '.join(names)}: {problem}" for problem, names in uncut.items()]


def check_folds(contest: Contest, found: Findings) -> None:
    """A fold that is held out is one that 01 cuts."""
    for step in contest.steps:
        fold = getattr(step.cfg, "held_out_fold", -1)
        if contest.folds and fold >= contest.folds:
            found.errors.append(
                f"{step.name}: held_out_fold {fold}, but 01_noise cuts the folds 0 to "
                f"{contest.folds - 1}; name one of them, or raise folds"
            )


def check_device(contest: Contest, found: Findings) -> None:
    """The machine has what the parameters ask for."""
    problems: dict[str, None] = {}
    for step in contest.steps:
        try:
            hardware(step.cfg)
        except ValueError as error:
            problems[str(error)] = None
        if step.cfg.device != "cpu":
            if problem := _gpu_problem(step.cfg.device, step.cfg.processes):
                problems[problem] = None
    found.errors += list(problems)


def _gpu_problem(device: str, processes: int) -> str:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if processes <= gpus or (gpus == 0 and device == "auto"):
        return ""
    return (
        f"device {device} with processes {processes}, but this machine has {gpus} CUDA GPUs: set "
        f"{f'processes to at most {gpus} or ' if gpus else ''}device to cpu or auto"
    )
