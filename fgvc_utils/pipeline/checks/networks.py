"""Checks of networks, weights, batches and the device."""

from functools import cache
from typing import Any, NamedTuple

from fgvc_utils.contest.config import networks_of
from fgvc_utils.contest.parameters import ParameterError, accumulation
from fgvc_utils.core.naming import first_quoted
from fgvc_utils.jobs.running import hardware
from fgvc_utils.pipeline.checks.findings import Contest, Findings
from fgvc_utils.pipeline.stages import STAGES, is_probe
from fgvc_utils.training import backbones, catalogue, lora
from fgvc_utils.training.angular import set_angular
from fgvc_utils.training.probes import frozen_networks


def check_networks(contest: Contest, found: Findings) -> None:
    """Backbones are known, their weights are there and fit, and pictures are large enough."""
    unfit: dict[str, list[str]] = {}
    odd: dict[str, list[str]] = {}
    hub: dict[str, None] = {}
    for step in contest.steps:
        cfg = step.cfg
        if not hasattr(cfg, "backbone"):
            continue
        for name, weights, size in networks_used(cfg):
            if not catalogue.on_this_machine(name):
                hub[name] = None
                continue
            if problem := _network_problem(name, weights) or _size_problem(name, size):
                unfit.setdefault(problem, []).append(step.name)
                continue
            if weights == "hub" and not _on_this_machine(name):
                hub[name] = None
            if oddity := _oddity(name, weights, size):
                odd.setdefault(oddity, []).append(step.name)
        if problem := _recipe_problem(cfg):
            unfit.setdefault(problem, []).append(step.name)
        _picture_sizes(contest, step, found)
    found.errors += [f"{', '.join(names)}: {problem}" for problem, names in unfit.items()]
    found.warnings += [f"{', '.join(names)}: {oddity}" for oddity, names in odd.items()]
    if hub:
        found.warnings.append(
            f"weights hub of {first_quoted(list(hub))} are not on this machine yet: they are "
            "downloaded when they are first used, which needs a connection"
        )


class Used(NamedTuple):
    """A network of a stage."""

    backbone: str
    weights: str
    size: int


def networks_used(cfg: Any) -> list[Used]:
    """All networks of a stage with their weights and sizes, each once."""
    given = frozen_networks(cfg) if is_probe(cfg) else networks_of(cfg)
    named = [Used(**network.model_dump()) for network in given]
    known = {network.backbone for network in named}
    for recipe in getattr(cfg, "rounds", []):
        further = [name for name in recipe.backbones if name not in known]
        named += [Used(name, cfg.weights, cfg.size) for name in further]
    return list(dict.fromkeys(named))


@cache
def _network_problem(name: str, weights: str) -> str:
    try:
        backbones.check_network(name, weights)
        backbones.check_classifier(backbones.bare_network(name), name)
        backbones.check_weights_file(name, weights)
    except ValueError as error:
        return str(error)
    return ""


@cache
def _size_problem(name: str, size: int) -> str:
    fixed = catalogue.described(name).config.fixed_input_size
    return backbones.size_problem(name, size) if fixed else ""


@cache
def _oddity(name: str, weights: str, size: int) -> str:
    """What works, but not as a person would think."""
    unseen, near = backbones.unseen_edge(name, size)
    if unseen:
        return (
            f"backbone {name!r} does not see the last {unseen} px of pictures of {size} px; sizes "
            f"near it that fill its patches: {near[0]}, {near[1]}"
        )
    quick = backbones.other_activation(name) if weights != "none" else ""
    if quick:
        return (
            f"the weights of {name!r} were trained with QuickGELU, which this network does not "
            f"have; as {quick} it gives the features that it was trained for"
        )
    return ""


def _recipe_problem(cfg: Any) -> str:
    """Why a recipe cannot be had with its network; empty where it can."""
    if is_probe(cfg) or not catalogue.on_this_machine(cfg.backbone):
        return ""
    if _network_problem(cfg.backbone, cfg.weights):
        return ""
    if getattr(cfg, "lora_rank", 0) and (problem := _lora_problem(cfg.backbone)):
        return problem
    return _angular_problem(cfg.backbone) if getattr(cfg, "classifier", "") == "arcface" else ""


@cache
def _lora_problem(name: str) -> str:
    try:
        lora.check_adapters(backbones.bare_network(name), name)
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
    """Whether a name's own weights were downloaded before; true where that is not known."""
    source = catalogue.described(name).config.hf_hub_id
    if name.startswith(catalogue.HUB):
        source = name.removeprefix(catalogue.HUB)
    return not source or catalogue.in_cache(source, catalogue.WEIGHTS)


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
    """A fold that is held out is one that 01 cuts, and its classes can be learnt from others."""
    judged = [s for s in contest.steps if getattr(s.cfg, "held_out_fold", -1) >= 0]
    sizes = contest.class_sizes
    if judged and len(sizes) > 1 and (sizes == 1).all():
        found.errors.append(
            f"{', '.join(step.name for step in judged)}: all {len(sizes)} classes have one image, "
            "so that no network learns a class that is held out, and none can be judged; set "
            "held_out_fold to -1, or bring more images"
        )
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
