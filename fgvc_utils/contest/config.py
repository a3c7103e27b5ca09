"""What all stages share: parameters, their reading in a notebook, and where a run's files lie.

A default lives once: in the notebook's parameters cell, those of the hardware in `machines`. So a
notebook that lacks a parameter or has one too many fails before it works.

Counts in no digest.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from fgvc_utils.contest.contest_file import (
    ContestFile,
    find_contest,
    notebook_defaults,
    read_contest_file,
    shown_path,
)
from fgvc_utils.contest.contest_rules import Breach, ContestRules, refuse_breaches, rules_of
from fgvc_utils.contest.machines import Machines
from fgvc_utils.contest.parameters import (
    CountOrZero,
    FolderName,
    NetworkName,
    ParameterError,
    Parameters,
    Pixels,
    in_short,
    injected_names,
    written_names,
)
from fgvc_utils.contest.places import PROJECT, NamedPath, as_folder_name, expanded
from fgvc_utils.contest.presets import preset_values, said_preset


class Shared(Machines):
    """What all stages share."""

    contest: str
    run: FolderName
    outputs: NamedPath
    data_root: str
    seed: CountOrZero

    @classmethod
    def bound(cls, rules: ContestRules) -> dict[str, Any]:
        """What the contest's rules set in place of the notebook's defaults, by name."""
        return {}

    def breaches(self, rules: ContestRules) -> list[Breach]:
        """What of these parameters would break one of the contest's rules."""
        if rules.hand_cleaning or not getattr(self, "require_review", False):
            return []
        what = "require_review true waits for decisions by people"
        return [Breach("hand_cleaning", what, "set require_review: false")]

    @classmethod
    def read(cls, names: Mapping[str, Any], stage: str) -> Self:
        """The record of a notebook's parameters: `cfg = TrainParams.read(globals(), STAGE)`.

        Declared names alone are taken. A value counts as set where papermill injected it or where
        it differs from the notebook's default; it beats the contest file, which beats the preset
        (see `presets`), which beats what the contest's rules set, which beats the default. Among
        several sections of a stage the parameter `name` chooses where it is set, else the first one
        counts. What the file, the preset and the rules set, and what is set otherwise than there,
        is printed.

        Parameters
        ----------
        names : mapping
            The notebook's `globals()`.
        stage : str
            The notebook's name, such as `10_train`.

        Raises
        ------
        ParameterError
            A parameter is missing, of the wrong type or out of range, papermill or the cell sets a
            name that the stage does not have, the contest file or the preset is not there or not
            right, or the contest's rules would be broken.
        """
        injected, usual = injected_names(), notebook_defaults(stage)
        set_here = injected | written_names()
        strangers = {name: names.get(name) for name in set_here - set(cls.model_fields)}
        here = {name: names[name] for name in cls.model_fields if name in names}
        chosen = {
            name: value
            for name, value in here.items()
            if name in injected or name not in usual or not _same(value, usual[name])
        }
        contest = here.get("contest")
        path = find_contest(contest) if isinstance(contest, str) else None
        if not path:
            cfg, preset = _with_preset(cls, here, chosen | strangers)
            _print_preset(cfg, preset, chosen, here)
            return cfg
        file = read_contest_file(path)
        section = file.section(stage, chosen.get("name"))
        place = file.where(stage, chosen.get("name"))
        # By itself first: an error in the file names the file.
        by_file = from_file(cls, file, stage, section)
        there = file.values(section, cls.model_fields)
        rules = rules_of(file)
        ruled = cls.bound(rules)
        cfg, preset = _with_preset(cls, here | ruled, there | chosen | strangers)
        taken = [n for n in there if n not in chosen and not _same(there[n], here.get(n))]
        print(f"parameters of {shown_path(path)}, {place}{_listed(taken, there)}")
        _print_preset(cfg, preset, there | chosen, here)
        if file.rules is not None:
            print(f"{rules.text()}{_set_by(ruled, there | preset, usual, cfg)}")
        refuse_breaches(rules, cfg, stage)
        own = [n for n in chosen if getattr(cfg, n) != getattr(by_file, n)]
        own = [n for n in own if n not in ("contest", "name")]
        if own:
            print(f"set here, not as in the file{_listed(own, chosen, dict(by_file))}")
        if not injected and (so_far := cfg.so_far(file)):
            print(so_far)
        return cfg

    def so_far(self, file: ContestFile) -> str:
        """Which steps of the run are done, by their stamps, in words; empty where none is.

        For a person who runs one notebook: a stamp can be out of date, which a dry run tells.
        """
        names = file.step_names()
        done = [name for name in names if self.stamp(name).is_file()]
        later = [name for name in names if name not in done]
        if not done:
            return ""
        return f"of the run {self.run} done: {', '.join(done)}; to come: {', '.join(later) or '-'}"

    def stamp(self, step: str) -> Path:
        """What is written when a step is done: what it depends on."""
        return self.folder / "stages" / f"{step}.json"

    @property
    def folder(self) -> Path:
        """The folder of this run; a relative `outputs` lies in the project."""
        return expanded(self.outputs, PROJECT) / self.run

    def table_path(self, stage: str) -> Path:
        """Where a stage's label table lies."""
        return self.folder / "tables" / f"{stage}.parquet"

    def journal(self, stage: str) -> Path:
        """Where a stage's human decisions lie."""
        return self.folder / "decisions" / f"{stage}.csv"

    @property
    def report(self) -> Path:
        """The figures that tests and people read."""
        return self.folder / "report.json"


class FurtherNetwork(BaseModel):
    """A further network of a stage; what is empty or 0 is as the stage has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: NetworkName
    weights: NamedPath = ""
    size: Literal[0] | Pixels = 0


class Network(Parameters):
    """A network and the size of its images."""

    backbone: NetworkName
    weights: NamedPath
    size: Pixels


def networks_of(cfg: Network) -> list[FurtherNetwork]:
    """Return all networks whose features a stage uses, each with its own weights and size.

    Parameters
    ----------
    cfg : Network
        A stage's parameters; `further_backbones`, where it has them, holds names or networks.
    """
    further = getattr(cfg, "further_backbones", [])
    return completed(cfg, [cfg.backbone, *further])


def completed(cfg: Network, named: Iterable[str | FurtherNetwork]) -> list[FurtherNetwork]:
    """Return networks with the weights and the size of a stage where they have none of their own.

    Parameters
    ----------
    cfg : Network
        The stage's parameters.
    named : iterable of str or FurtherNetwork
        Names, or networks.
    """
    found = []
    for each in named:
        given = FurtherNetwork(backbone=each) if isinstance(each, str) else each
        weights, size = given.weights or cfg.weights, given.size or cfg.size
        found.append(given.model_copy(update={"weights": weights, "size": size}))
    return found


def features_folder(cfg: Shared, network: FurtherNetwork) -> Path:
    """Return where a network's features of all images lie; several stages share them."""
    name = f"{as_folder_name(network.backbone)}-{network.size}"
    if network.weights != cfg.weights:
        name += f"-{as_folder_name(network.weights)}"
    return cfg.folder / "features" / name


def from_file(
    record: type[Shared], file: ContestFile, stage: str, section: dict[str, Any]
) -> Shared:
    """The record of a stage as a section of a contest file, its preset and the defaults give it.

    Raises
    ------
    ParameterError
        Naming the file, the section and the parameter.
    """
    values = {"contest": shown_path(file.path)} | file.values(section, record.model_fields)
    usual = notebook_defaults(stage) | record.bound(rules_of(file))
    try:
        return _with_preset(record, usual, values)[0]
    except ParameterError as error:
        which = f", {section['name']!r}" if stage in file.listed and "name" in section else ""
        raise ParameterError(f"{file.path}, section {stage}{which}: {error}") from None


def _with_preset(
    record: type[Shared], usual: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[Shared, dict[str, Any]]:
    """A stage's record of usual values and others that beat them, and what its preset sets.

    The preset that either names stands between the two.
    """
    given = {**usual, **values}
    name = given.get("preset") if "preset" in record.model_fields else None
    preset = preset_values(name, record.model_fields)
    try:
        return record(**{**usual, **preset, **values}), preset
    except ParameterError as error:
        if set(preset) - set(values):
            raise ParameterError(f"with{said_preset(name)[1:]}: {error}") from None
        raise


def _print_preset(
    cfg: Shared, preset: dict[str, Any], set_there: Mapping[str, Any], usual: Mapping[str, Any]
) -> None:
    """Say what a preset sets that is neither set otherwise nor as it usually is."""
    taken = [n for n in preset if n not in set_there and not _same(preset[n], usual.get(n))]
    if taken:
        print(f"set by{said_preset(cfg.preset)[1:]}{_listed(taken, preset)}")


def _set_by(
    ruled: dict[str, Any], set_there: Mapping[str, Any], usual: Mapping[str, Any], cfg: Shared
) -> str:
    """What the rules set that is set nowhere else and not as it usually is, to end a phrase."""
    taken = [n for n in ruled if n not in set_there and not _same(ruled[n], usual.get(n))]
    taken = [n for n in taken if _same(getattr(cfg, n), ruled[n])]
    return f"; they set{_listed(taken, ruled)}" if taken else ""


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        # A table, where a cell took a parameter's name for something else.
        return False


def _listed(
    names: list[str], values: Mapping[str, Any], others: Mapping[str, Any] | None = None
) -> str:
    """Parameters with their values, and what they are elsewhere; begins with a colon."""
    others = others or {}
    texts = [
        f"{name} {in_short(values[name])}"
        + (f" (there {in_short(others[name])})" if name in others else "")
        for name in names
    ]
    return f": {', '.join(texts)}" if texts else ""
