"""The contest's own rules: what a run may do, so that its answer counts.

A contest file names them in its block `rules`: a preset of `params/presets/rules/`, names with
values, or a preset from which some values differ. What is not named is allowed. The rules take the
place of the notebooks' defaults (see `Shared.bound`), and what breaks one is refused by name.

Counts in no digest.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

from fgvc_utils.contest import presets
from fgvc_utils.contest.contest_file import (
    RULES_BLOCK,
    ContestFile,
    find_contest,
    read_contest_file,
    read_yaml,
    shown_path,
)
from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.parameters import (
    CountOrZero,
    ParameterError,
    Parameters,
    in_short,
    near_name,
)

# Folders of journals in which nothing may be decided, with the reason.
CLOSED: dict[Path, str] = {}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ContestRules(Parameters):
    """What the rules of a contest allow; by default everything.

    A field's description says what it means where it is true, or set.
    """

    preset: str = Field("", description="the preset of these rules, from which others may differ")
    train_on_test: bool = Field(
        True, description="networks may learn from test images, as students of their teachers do"
    )
    fit_to_test: bool = Field(
        True,
        description="the answer may be fitted to the test set: by known counts or shares, by "
        "balancing, by shares that expectation-maximisation finds",
    )
    ensembles: bool = Field(
        True,
        description="several models may answer together, by means, votes or layers on features; "
        "false: the best single model answers",
    )
    distillation: bool = Field(
        True, description="a network may learn from what other networks of the run predict"
    )
    hand_cleaning: bool = Field(
        True, description="people may decide on images and classes; false: programs alone"
    )
    pretraining: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        [],
        description="the weights that networks may begin with: names of timm, with * and ?; one "
        "that begins with ! is left out; empty: any",
    )
    final_models: CountOrZero = Field(
        0, description="so many networks may make the answer, at most; 0: any number"
    )
    source: str = Field("", description="where the rules are from")

    @property
    def most_models(self) -> float:
        """How many networks may answer, at most; infinite for any number."""
        return 1 if not self.ensembles else self.final_models or math.inf

    @property
    def named(self) -> str:
        """The rules in a word or two, to begin a message."""
        return f"rules {self.preset}" if self.preset else "rules"

    @property
    def binding(self) -> dict[str, Any]:
        """What they forbid or limit: the values that differ from allowing everything."""
        free = {"preset", "source"}
        return {n: v for n, v in self.model_dump().items() if n not in free and v != _FREE[n]}

    def text(self) -> str:
        """The rules in a line."""
        said = ", ".join(f"{name} {in_short(value)}" for name, value in self.binding.items())
        return f"{self.named}: {said or 'nothing is forbidden'}"

    def differences(self) -> dict[str, Any]:
        """The values that are other than those of the preset."""
        if not self.preset:
            return {}
        own = self.model_dump()
        there = ContestRules(**preset_rules(self.preset)).model_dump()
        return {n: own[n] for n in own if n != "preset" and own[n] != there[n]}


_FREE = ContestRules().model_dump()
RULES = [name for name in _FREE if name not in ("preset", "source")]


class Breach(NamedTuple):
    """What would break a rule: its name, what breaks it, and what to do."""

    rule: str
    what: str
    advice: str

    def text(self, rules: ContestRules, where: str) -> str:
        """The breach in one line."""
        value = str(getattr(rules, self.rule)).lower()
        value = "" if self.rule == "pretraining" else f" {value}"
        return f"{where}: {rules.named}, {self.rule}{value}: {self.what}; {self.advice}"


def rules_of(file: ContestFile) -> ContestRules:
    """Return the rules that a contest file names.

    Raises
    ------
    ParameterError
        Naming the file and what is wrong with its block of rules, or with the preset.
    """
    given, where = file.rules, f"{shown_path(file.path)}, {RULES_BLOCK}"
    if given is None:
        return ContestRules()
    if isinstance(given, str):
        given = {"preset": given}
    if not isinstance(given, dict):
        raise ParameterError(
            f"{where}: {in_short(given)} is neither the name of a preset ({_names()}) nor names "
            f"with values, such as `{RULES_BLOCK}: {{ensembles: false}}`; leave it out where there "
            "are none"
        )
    name = given.get("preset") or ""
    _check_names(given, where)
    try:
        return ContestRules(**(preset_rules(name) | given))
    except ParameterError as error:
        raise ParameterError(f"{where}: {error}") from None


def named_rules(contest: str) -> ContestRules | None:
    """Return the rules of the contest file that a parameter names; None where it names none."""
    path = find_contest(contest)
    file = read_contest_file(path) if path else None
    return None if file is None or file.rules is None else rules_of(file)


def rules_digest(contest: str) -> str:
    """Return a digest of the rules that a contest file names; empty where it names none."""
    rules = named_rules(contest)
    return hashlib.sha256(rules.model_dump_json().encode()).hexdigest() if rules else ""


def preset_rules(name: Any) -> dict[str, Any]:
    """Return the values of a preset of rules; none for an empty name.

    Raises
    ------
    ParameterError
        Naming those that are there where this one is not, or what is wrong with its file.
    """
    if name == "":
        return {}
    folder, there = presets.PRESETS / RULES_BLOCK, rule_names()
    if name not in there:
        hint = near_name(str(name).lower(), there)
        raise ParameterError(
            f"{RULES_BLOCK}: preset {name!r} is not there; there are {_names()}, files of "
            f"{shown_path(folder)}/, where one of your own may lie{hint}"
        )
    path = presets.preset_files(RULES_BLOCK)[name]
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ParameterError(f"{shown_path(path)} holds no names with values")
    _check_names(values, shown_path(path))
    if "preset" in values:
        raise ParameterError(f"{shown_path(path)}: a preset takes no other one; write its values")
    try:
        ContestRules(**values)
    except ParameterError as error:
        raise ParameterError(f"{shown_path(path)}: {error}") from None
    return values


def rule_names() -> list[str]:
    """Return the names of the presets of rules that are there."""
    return sorted(presets.preset_files(RULES_BLOCK))


def _names() -> str:
    return ", ".join(rule_names()) or "none"


def _check_names(values: dict[str, Any], where: str) -> None:
    """Refuse names that are no rules."""
    known = list(ContestRules.model_fields)
    for name in values:
        if name not in known:
            raise ParameterError(
                f"{where}: {name!r} is no rule; there are {', '.join(RULES)}"
                f"{near_name(str(name), known)}"
            )


def refuse_breaches(rules: ContestRules, cfg: Any, stage: str) -> None:
    """Refuse the parameters of a stage, or a decision of its run, that would break a rule.

    Where rules forbid decisions by people, those of this run are closed to galleries too.

    Raises
    ------
    ParameterError
        A line for each breach.
    """
    found = [*cfg.breaches(rules), *hand_breaches(rules, cfg.folder).values()]
    if found:
        raise ParameterError("\n".join(each.text(rules, stage) for each in found))
    if rules.hand_cleaning:
        CLOSED.pop(cfg.folder / "decisions", None)
    else:
        CLOSED[cfg.folder / "decisions"] = f"{rules.named}, hand_cleaning false"


def refuse_closed(journal: Path) -> None:
    """Refuse a decision by a person where the rules forbid it.

    Raises
    ------
    ValueError
        Naming the rule.
    """
    if reason := CLOSED.get(Path(journal).parent):
        raise ValueError(
            f"not decided: {reason}: the contest's rules allow no decision by people. Look as you "
            f"like; to decide, allow hand_cleaning in the contest file's `{RULES_BLOCK}`"
        )


def decisions_of(folder: Path) -> dict[Path, int]:
    """Count the decisions in force in each journal of a run, of those journals that have any.

    A journal that cannot be read has none; the check names it by itself.
    """
    found = {}
    for path in sorted((folder / "decisions").glob("*.csv")):
        try:
            count = len(Journal(path).latest())
        except (ValueError, OSError):
            count = 0
        if count:
            found[path] = count
    return found


def hand_breaches(rules: ContestRules, folder: Path) -> dict[Path, Breach]:
    """Return a breach for each journal with decisions, where people may not decide."""
    if rules.hand_cleaning:
        return {}
    advice = "keep the file elsewhere, or give this contest another `run`"
    found = {}
    for path, count in decisions_of(folder).items():
        what = f"{shown_path(path)} holds {count} decision{'s' * (count > 1)} by people"
        found[path] = Breach("hand_cleaning", what, advice)
    return found


def matches(patterns: Sequence[str], names: Iterable[str]) -> bool:
    """Whether one of a network's names is among those that patterns allow.

    Parameters
    ----------
    patterns : sequence of str
        As in `ContestRules.pretraining`; without a positive one all are allowed that none leaves
        out.
    names : iterable of str
        All names of the network's weights, such as `resnet50` and `resnet50.a1_in1k`.
    """
    names = list(names)
    left_out = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    return _any(wanted, names) and not _any(left_out, names)


def _any(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
