"""How a run kept the contest's rules, with what shows it: the rows, weights and decisions it left.

Counts in no digest.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fgvc_utils.answers import assignment, ways
from fgvc_utils.contest.contest_rules import RULES, ContestRules, decisions_of, named_rules
from fgvc_utils.contest.parameters import TABLES
from fgvc_utils.contest.places import weights_file
from fgvc_utils.contest.report import update_report
from fgvc_utils.contest.runs import stamped_parameters
from fgvc_utils.core.files import file_digest, read_json
from fgvc_utils.core.naming import first_few
from fgvc_utils.core.project import command_line
from fgvc_utils.jobs.records import DONE, WEIGHTS, Job, read_job
from fgvc_utils.jobs.rows import fitted_images
from fgvc_utils.jobs.running import work_folder
from fgvc_utils.training.pretrained import forbidden_elsewhere
from fgvc_utils.training.probes import backbones_of, is_probe
from fgvc_utils.training.refits import FOLDER as REFIT

SECTION = "rules"
ENSEMBLE = "30_ensemble"


class Kept(NamedTuple):
    """How one rule was kept.

    Attributes
    ----------
    rule : str
        Its name.
    allowed : Any
        Its value: what the contest allows.
    kept : bool or None
        Whether it was kept; None where the run has left nothing that tells.
    evidence : str
        What shows it, in words.
    figures : Mapping[str, Any]
        The same as plain data.
    """

    rule: str
    allowed: Any
    kept: bool | None
    evidence: str
    figures: Mapping[str, Any]


class Answer(NamedTuple):
    """Who made the answer.

    Attributes
    ----------
    models : Mapping[str, Path]
        Each model, soup or layer that has a vote → the folder of its job.
    refitted : list of str
        The models whose refit answers for test images.
    voters : list of str
        The ways that vote.
    networks : Mapping[str, Path]
        Each network → the folder of its job: that of the refit where that answers.
    scores : Mapping[str, float]
        Held-out top-1 of single models.
    held_out : int
        The number of those images.
    """

    models: Mapping[str, Path]
    refitted: list[str]
    voters: list[str]
    networks: Mapping[str, Path]
    scores: Mapping[str, float]
    held_out: int


def rules_kept(cfg: Any, table: pd.DataFrame) -> list[Kept]:
    """Look at what a run left, and say of each rule of its contest how it was kept.

    Parameters
    ----------
    cfg : SubmitParams
        The parameters of 40, which name the contest file, the run and the scores.
    table : DataFrame
        The label table that 40 reads.

    Returns
    -------
    list of Kept
        Empty where the contest file names no rules.
    """
    rules = named_rules(cfg.contest)
    if rules is None:
        return []
    answer = _answer(cfg)
    lineage = _lineage(answer.models.values() if answer else ())
    parts = {
        "train_on_test": lambda: _training_rows(cfg, lineage, table, answer),
        "fit_to_test": lambda: _fitted_to_test(cfg),
        "ensembles": lambda: _together(answer),
        "distillation": lambda: _taught(lineage, answer),
        "hand_cleaning": lambda: _by_hand(cfg, table),
        "pretraining": lambda: _weights(cfg, rules, lineage),
        "final_models": lambda: _sets(rules, answer),
    }
    return [_judged(rules, name, *parts[name]()) for name in RULES]


def _judged(
    rules: ContestRules, name: str, clean: bool | None, evidence: str, figures: Mapping[str, Any]
) -> Kept:
    """A rule with its evidence: where all is allowed it is kept, whatever was done."""
    allowed = getattr(rules, name)
    free = name not in rules.binding
    return Kept(name, allowed, True if free else clean, evidence, figures)


def require_kept(kept: Iterable[Kept]) -> None:
    """Refuse an answer that breaks a rule.

    Raises
    ------
    ValueError
        A line for each rule that was broken, with what shows it.
    """
    broken = [f"{each.rule}: {each.evidence}" for each in kept if each.kept is False]
    if broken:
        said = "\n  ".join(broken)
        raise ValueError(
            f"the contest's rules were broken, so no file is written:\n  {said}\n"
            f"{command_line('check')} says which parameter to change"
        )


def as_table(kept: Iterable[Kept]) -> pd.DataFrame:
    """Tabulate how the rules were kept, a row a rule: allowed, kept (yes, no, ?), evidence."""
    words = {True: "yes", False: "no", None: "?"}
    rows = [(str(each.allowed), words[each.kept], each.evidence) for each in kept]
    index = pd.Index([each.rule for each in kept], name="rule")
    return pd.DataFrame(rows, index=index, columns=["allowed", "kept", "evidence"])


def note_rules(cfg: Any, kept: list[Kept], file: Path) -> str:
    """Put how the rules were kept into the run's report; returns it in a line.

    Parameters
    ----------
    cfg : SubmitParams
        The parameters of 40.
    kept : list of Kept
        That of `rules_kept`; where it is empty nothing is written.
    file : Path
        The submission that it is about.
    """
    rules = named_rules(cfg.contest)
    if rules is None:
        return "the contest file names no rules"
    bound = [each for each in kept if each.rule in rules.binding]
    verdict = f"{sum(each.kept is True for each in bound)} of {len(bound)} that bind were kept"
    unknown = [each.rule for each in bound if each.kept is None]
    verdict += f", not known of {', '.join(unknown)}" if unknown else ""
    figures = {
        "preset": rules.preset,
        "source": rules.source,
        "differs_from_preset": rules.differences(),
        "file": file.name,
        "sha256": file_digest(file),
        "verdict": verdict,
        "rules": [each._asdict() | {"binds": each in bound} for each in kept],
    }
    update_report(cfg.report, SECTION, figures)
    return f"{rules.named}: {verdict}"


def _answer(cfg: Any) -> Answer | None:
    """Who made the scores, as 30 noted it; None where it did not, or the scores are others'."""
    report = read_json(cfg.report) if cfg.report.is_file() else {}
    noted = report.get(ENSEMBLE, {})
    if cfg.ensemble != "vote" or not noted.get("ways"):
        return None
    all_ways = [ways.Way(**each) for each in noted["ways"]]
    voting = ways.voters(all_ways)
    models, networks = {}, {}
    for way in (each for each in all_ways if each.name in voting):
        for name in (name for name, weight in way.weights.items() if weight):
            folder = _folder_of(cfg, name, way.kind)
            models[name] = folder
            networks |= _networks(name, folder, refit=name in noted["refitted"])
    refitted = [name for name in noted["refitted"] if name in models]
    return Answer(
        models, refitted, voting, networks, noted.get("single", {}), noted.get("held_out", 0)
    )


def _folder_of(cfg: Any, name: str, kind: str) -> Path:
    """Where the job of a member lies: a layer's, a soup's or a model's."""
    if kind in ways.LAYERS:
        return Path(work_folder(cfg, ENSEMBLE, kind))
    soup = cfg.folder / "soups" / name
    return soup if (soup / DONE).is_file() else cfg.folder / "models" / name


def _networks(name: str, folder: Path, *, refit: bool = False) -> dict[str, Path]:
    """The networks of a member, each with the folder of its job."""
    job = read_job(folder / "job.json")
    if not is_probe(job):
        return {name: folder / REFIT if refit else folder}
    found: dict[str, Path] = {}
    for store in job.stores:
        below = Path(store).parent
        features = read_job(below / "job.json")
        if features.fit == "none":
            found[f"{features.backbone} at {features.size} px"] = below
        else:
            # A layer reads the features of models.
            found |= _networks(below.name, below)
    return found


def _parents(job: Job) -> list[Path]:
    """The folders of the jobs that a job read."""
    files = [*job.teachers, *job.stores, job.trained, job.start_weights, job.probe]
    return [Path(file).parent for file in files if file]


def _lineage(folders: Iterable[Path]) -> dict[Path, Job]:
    """All jobs that some jobs go back to, themselves and their refits included, by their folder."""
    found: dict[Path, Job] = {}
    left = [Path(folder) for folder in folders]
    while left:
        folder = left.pop()
        if folder in found:
            continue
        if not (folder / "job.json").is_file():
            left += _averaged(folder)
            continue
        found[folder] = read_job(folder / "job.json")
        again = folder / REFIT
        left += [*_parents(found[folder]), *([again] if (again / DONE).is_file() else [])]
    return found


def _averaged(folder: Path) -> list[Path]:
    """The folders of the models whose weights were averaged in one; none for another folder."""
    noted = read_json(folder / DONE) if (folder / DONE).is_file() else {}
    return [Path(file).parent for file in noted.get("members", [])]


def _training_rows(
    cfg: Any, lineage: Mapping[Path, Job], table: pd.DataFrame, answer: Answer | None
) -> tuple[bool | None, str, dict[str, Any]]:
    """Whether a test image is among the training rows of anything that the answer rests on."""
    test = set(table.loc[table["split"] == "test", "image_id"])
    fits = {folder for folder, job in lineage.items() if job.fit != "none"}
    for stage in TABLES:
        fits |= {file.parent for file in (cfg.folder / "work" / stage).rglob(DONE)}
    rows, seen = 0, {}
    for folder in sorted(fits):
        if (folder / "rows.parquet").is_file():
            fitted = fitted_images(folder)
            rows += len(fitted)
            if shared := fitted & test:
                seen[folder.relative_to(cfg.folder).as_posix()] = len(shared)
    among = f"{max(seen.values())} of the {len(test)} test images" if seen else "no test image"
    where = f": {first_few(list(seen))}" if seen else ""
    said = f"{among} in the {rows} training rows of {len(fits)} fits{where}"
    figures = {
        "fits": len(fits),
        "training_rows": rows,
        "test_images": len(test),
        "with_test": seen,
    }
    return (None if answer is None and not seen else not seen), said, figures


def _fitted_to_test(cfg: Any) -> tuple[bool, str, dict[str, Any]]:
    """Whether 40 balances its answers to the test set."""
    entry = assignment.RULES[cfg.rule]
    settings = {name: getattr(cfg, name) for name in ("known_count", "prior") if getattr(cfg, name)}
    used = ", ".join(f"{name} {value}" for name, value in settings.items())
    said = f"40 answers by rule {cfg.rule}: {entry.caption}"
    said += f"; by {used}" if used and entry.balances else ""
    return not entry.balances, said, {"rule": cfg.rule, **settings}


NOT_NOTED = "30 has noted nothing of who made these scores"


def _together(answer: Answer | None) -> tuple[bool | None, str, dict[str, Any]]:
    """Whether one model answers."""
    if answer is None:
        return None, NOT_NOTED, {}
    names = list(answer.models)
    figures = {"models": names, "voters": answer.voters, "held_out": answer.held_out}
    if len(names) > 1 or len(answer.networks) > 1:
        said = f"{len(names)} models in {len(answer.voters)} voting ways: {first_few(names)}"
        return False, said, figures
    (name,) = names
    again = ", refitted on all images" if answer.refitted else ""
    said = f"one model answers: {name}{again}"
    if answer.held_out and name in answer.scores:
        others = len(answer.scores)
        said += f"; of {others} the best by {answer.held_out} held-out images" if others > 1 else ""
        said += f", top-1 {answer.scores[name]:.1%}"
        figures["top1"] = answer.scores[name]
    return True, said, figures


def _taught(
    lineage: Mapping[Path, Job], answer: Answer | None
) -> tuple[bool | None, str, dict[str, Any]]:
    """Which networks of the answer learned from others."""
    if answer is None:
        return None, NOT_NOTED, {}
    taught = {
        folder.name: [Path(teacher).parent.name for teacher in job.teachers]
        for folder, job in lineage.items()
        if job.teachers and folder.name != REFIT
    }
    said = "; ".join(f"{name} learned from {first_few(names)}" for name, names in taught.items())
    said = said or "no network that the answer rests on learned from another one"
    return not taught, said, {"taught": taught}


def _by_hand(cfg: Any, table: pd.DataFrame) -> tuple[bool, str, dict[str, Any]]:
    """Decisions by people: in the journals, and in the table that was learned from."""
    decided = {path.name: count for path, count in decisions_of(cfg.folder).items()}
    rows = int((table["by"] == "human").sum())
    listed = ", ".join(f"{count} in {name}" for name, count in decided.items())
    said = f"decisions by people: {listed}" if listed else "no decision by people in any journal"
    said += f"; {rows} of {len(table)} rows of {cfg.table} decided by people"
    return not decided and not rows, said, {"decisions": decided, "rows_by_people": rows}


def _weights(
    cfg: Any, rules: ContestRules, lineage: Mapping[Path, Job]
) -> tuple[bool | None, str, dict[str, Any]]:
    """With which weights the networks began."""
    used: dict[tuple[str, str], None] = {}
    for job in lineage.values():
        # A layer has no network of its own, and one that goes on from a model began as that one.
        if job.fit != "head" and job.backbone and not (job.trained or job.start_weights):
            used |= {(backbone, job.weights): None for backbone in backbones_of(job)}
    for stage in TABLES:
        used |= dict.fromkeys(_of_stamp(cfg.stamp(stage)))
    begun = [pair for pair in used if pair[1] != "none"]
    wrong = forbidden_elsewhere(rules.pretraining, [backbone for backbone, _ in begun])
    listed = [f"{backbone} ({_source(weights)})" for backbone, weights in begun]
    said = ", ".join(listed) or "no network began with weights of others"
    if wrong:
        said += f"; not allowed: {', '.join(wrong.values())}"
    return (not wrong if used else None), said, {"networks": [list(pair) for pair in used]}


def _of_stamp(stamp: Path) -> list[tuple[str, str]]:
    """The networks of a cleaning stage with their weights, as its stamp has its parameters."""
    given = stamped_parameters(stamp)
    if "backbone" not in given:
        return []
    named = [given["backbone"], *given.get("further_backbones", [])]
    both = [each if isinstance(each, dict) else {"backbone": each} for each in named]
    return [(each["backbone"], each.get("weights") or given["weights"]) for each in both]


def _source(weights: str) -> str:
    """Where weights came from, in short; of a file its name and the beginning of its digest."""
    file = weights_file(weights)
    if file is None:
        return weights
    digest = f", sha256 {file_digest(file)[:12]}" if file.is_file() else ""
    return f"file {file.name}{digest}"


def _sets(rules: ContestRules, answer: Answer | None) -> tuple[bool | None, str, dict[str, Any]]:
    """The sets of weights that made the answer."""
    if answer is None:
        return None, NOT_NOTED, {}
    sets = {name: _digest_of(folder) for name, folder in answer.networks.items()}
    count = len(sets)
    said = f"{count} set{'s' * (count > 1)} of weights in the answer: "
    said += first_few([f"{name}, sha256 {digest[:12]}" for name, digest in sets.items()])
    return count <= (rules.final_models or count), said, {"weights": sets}


def _digest_of(folder: Path) -> str:
    """The SHA-256 of the weights that a job left; of frozen features that of the features."""
    left = read_json(folder / DONE).get("left", {}) if (folder / DONE).is_file() else {}
    return left.get(WEIGHTS, next(iter(left.values()), {})).get("sha256", "")
