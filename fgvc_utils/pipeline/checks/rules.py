"""Checks of the contest's own rules: each step that would break one is refused by name."""

import math
from typing import Any

from fgvc_utils.contest.contest_rules import Breach, ContestRules, hand_breaches, named_rules
from fgvc_utils.contest.places import weights_file
from fgvc_utils.core.naming import first_quoted
from fgvc_utils.jobs.records import DONE, Job, read_job
from fgvc_utils.jobs.rows import fitted_images
from fgvc_utils.pipeline.checks.findings import Contest, Findings
from fgvc_utils.pipeline.checks.networks import Used, networks_used
from fgvc_utils.pipeline.stages import STAGES, is_probe, making
from fgvc_utils.training import pretrained
from fgvc_utils.training.probes import backbones_of, frozen_networks


def check_rules(contest: Contest, found: Findings) -> None:
    """No step breaks a rule of the contest: a line for each that would."""
    rules = named_rules(contest.steps[0].cfg.contest)
    if rules is None:
        return
    found.facts.append(rules.text())
    if rules.source:
        found.facts.append(f"{rules.named} are from {rules.source}")
    for step in contest.steps:
        found.errors += [each.text(rules, step.name) for each in step.cfg.breaches(rules)]
    _decisions(contest, rules, found)
    if rules.pretraining:
        _pretraining(contest, rules, found)
    for name in _earlier(contest):
        _earlier_model(contest, name, rules, found)
    for step in contest.of(*making("vote")) if rules.most_models < math.inf else ():
        _one_answers(contest, step, rules, found)


def _decisions(contest: Contest, rules: ContestRules, found: Findings) -> None:
    """Journals with decisions, where people may not decide; a breach names the journal's stage."""
    stage_of = {journal: name for name, stage in STAGES.items() for journal in stage.journals}
    for path, breach in hand_breaches(rules, contest.folder).items():
        found.errors.append(breach.text(rules, stage_of.get(path.stem, path.stem)))


def _pretraining(contest: Contest, rules: ContestRules, found: Findings) -> None:
    """Networks begin with weights that are allowed, or with none."""
    stages: dict[Used, list[str]] = {}
    for step in contest.steps:
        for network in networks_used(step.cfg) if hasattr(step.cfg, "backbone") else ():
            if network.weights != "none":
                stages.setdefault(network._replace(size=0), []).append(step.name)
    wrong = pretrained.forbidden(rules.pretraining, [each.backbone for each in stages])
    for network, names in stages.items():
        if network.backbone in wrong:
            where = ", ".join(dict.fromkeys(names))
            breach = _not_allowed(network.backbone, wrong[network.backbone], rules)
            found.errors.append(breach.text(rules, where))
        elif weights_file(network.weights):
            found.facts.append(
                f"{rules.named}, pretraining: what the file {network.weights} was trained on "
                f"cannot be told; it counts as {network.backbone}"
            )
    if strangers := pretrained.strangers(rules.pretraining):
        found.warnings.append(
            f"{rules.named}, pretraining: {first_quoted(strangers)} name no weights that timm "
            "knows; check the spelling"
        )


def _not_allowed(backbone: str, full: str, rules: ContestRules) -> Breach:
    """The breach by weights that the rules do not allow."""
    also = f" ({full})" if full != backbone else ""
    return Breach(
        "pretraining",
        f"backbone {backbone!r}{also} is not among {first_quoted(rules.pretraining)}",
        "name another backbone, or set weights: none",
    )


def _made(contest: Contest) -> dict[str, Any]:
    """The models that the contest makes, by name, with their parameters."""
    return {step.cfg.name: step.cfg for step in contest.of(*making("model"))}


def _earlier(contest: Contest) -> list[str]:
    """The models of earlier runs that a step takes: those that it names, or all where it may."""
    made, there = _made(contest), contest.folder / "models"
    done = sorted(file.parent.name for file in there.glob(f"*/{DONE}"))
    taken: dict[str, None] = {}
    for step in contest.steps:
        stage = STAGES[step.stage]
        named = [*stage.models_named(step.cfg), stage.start_named(step.cfg)]
        taken |= dict.fromkeys(named)
        if stage.model_parameters and not stage.models_named(step.cfg):
            taken |= dict.fromkeys(done)
    return [name for name in done if name in taken and name not in made]


def _earlier_model(contest: Contest, name: str, rules: ContestRules, found: Findings) -> None:
    """A model of an earlier run keeps the rules too."""
    folder = contest.folder / "models" / name
    job = read_job(folder / "job.json")
    where = f"model {name!r} of an earlier run"
    advice = "name the models that are to be taken in `models` and `teachers`, without it"
    wrong = pretrained.forbidden(rules.pretraining, backbones_of(job)) if _pretrained(job) else {}
    for backbone, full in wrong.items():
        breach = _not_allowed(backbone, full, rules)._replace(advice=advice)
        found.errors.append(breach.text(rules, where))
    if rules.train_on_test or contest.images is None:
        return
    of_test = contest.images.loc[contest.images["split"] == "test", "image_id"]
    learnt = len(fitted_images(folder) & set(of_test))
    if learnt:
        breach = Breach("train_on_test", f"it learned from {learnt} test images", advice)
        found.errors.append(breach.text(rules, where))


def _pretrained(job: Job) -> bool:
    """Whether a model's networks did not begin at random; a probe's job does not say."""
    return job.weights != "none" or bool(job.start_weights) or job.fit == "head"


def _one_answers(contest: Contest, step: Any, rules: ContestRules, found: Findings) -> None:
    """Where few networks may answer, each model is as few, and something chooses among them."""
    most, made = int(rules.most_models), _made(contest)
    rule = "final_models" if rules.ensembles else "ensembles"
    names = STAGES[step.stage].models_named(step.cfg) or [*made, *_earlier(contest)]
    for name in names:
        count = _networks_in(contest, name, made)
        if count > most:
            what = f"model {name!r} joins the features of {count} networks and may answer"
            advice = f"set its probe_backbones to {most}, or name other models in {step.name}"
            found.errors.append(Breach(rule, what, advice).text(rules, step.name))
    if step.cfg.held_out_fold < 0 and len(names) > most:
        what = f"held_out_fold -1 leaves no image by which to choose among {len(names)} models"
        advice = "name those that answer in `models`, or hold a fold out"
        found.errors.append(Breach(rule, what, advice).text(rules, step.name))
    if len(names) > most and rules.distillation and not contest.of("20_distill"):
        found.facts.append(
            f"{rules.named}, {rule}: of {len(names)} models the best by held-out images answers; a "
            "student of them, which the rules allow, is one model too: see 20_distill"
        )


def _networks_in(contest: Contest, name: str, made: dict[str, Any]) -> int:
    """How many networks make a model: one, or those whose features a probe joins."""
    if name in made:
        return len(frozen_networks(made[name])) if is_probe(made[name]) else 1
    file = contest.folder / "models" / name / "job.json"
    return len(backbones_of(read_job(file))) if file.is_file() else 1
