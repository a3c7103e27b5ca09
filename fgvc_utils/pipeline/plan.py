"""What would become of each step of a contest."""

from dataclasses import dataclass

from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.parameters import ParameterError, accumulation
from fgvc_utils.core.naming import first_few
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.stages import STAGES, is_probe
from fgvc_utils.pipeline.stamps import NAMED, other_versions, why

# Why a step does not run.
DONE, NOT_ASKED = "done before", "not asked for"


@dataclass(frozen=True)
class Planned:
    """What would become of a step: why it runs, or else why it is skipped.

    Not `sure` is a step that is done as things are now, and reads what another one writes anew: it
    runs unless that comes out as before.
    """

    step: Step
    reason: str
    sure: bool = True
    skipped: str = DONE


def plan(steps: list[Step], first: str | None, only: str | None) -> list[Planned]:
    """What would become of each step, those after a change included.

    Parameters
    ----------
    steps : list of Step
        All steps of the contest, in order.
    first : str, optional
        This stage and all after it run, whether done or not.
    only : str, optional
        This stage alone runs.

    Raises
    ------
    ParameterError
        Where the contest has no such stage.
    """
    check_stage_names(steps, first, only)
    planned: list[Planned] = []
    for step in steps:
        reason, sure = reason_to_run(step, first, only), True
        anew = [p.step.name for p in planned if p.reason and _reads(step, p.step)]
        if not reason and anew and not only:
            reason, sure = f"it reads what {first_few(anew, NAMED)} writes anew", False
        planned.append(Planned(step, reason, sure, why_skipped(step, only)))
    return planned


def _reads(step: Step, earlier: Step) -> bool:
    """Whether a step reads what an earlier one writes."""
    name = getattr(earlier.cfg, "name", "")
    return STAGES[step.stage].reads_of(step.cfg, earlier.stage, name)


def check_stage_names(steps: list[Step], first: str | None, only: str | None) -> None:
    """Check that the contest has the stages that `--from` and `--only` name.

    Raises
    ------
    ParameterError
        Naming the one that it has not, and those that it has.
    """
    stages = [step.stage for step in steps]
    for name in (first, only):
        if name and name not in stages:
            raise ParameterError(
                f"no stage {name!r} in this contest; it has {', '.join(dict.fromkeys(stages))}"
            )


def reason_to_run(step: Step, first: str | None, only: str | None) -> str:
    """Why a step runs, by what was asked for or by its stamp; empty where it is skipped."""
    if only:
        return "asked for" if step.stage == only else ""
    if first and step.stage >= first:
        return "asked for"
    return why(step)


def why_skipped(step: Step, only: str | None) -> str:
    """Why a step that need not run is skipped: `--only` asks nothing about the others."""
    return NOT_ASKED if only and step.stage != only else DONE


def print_plan(planned: list[Planned]) -> None:
    """Say what each step would do, why, and with which parameters beside the shared ones."""
    for each in planned:
        step, reason = each.step, each.reason
        what = "run" if each.sure else "may run"
        print(f"{step.name}: {f'{what}, {reason}' if reason else f'skip, {each.skipped}'}")
        if not reason and each.skipped == DONE and (other := other_versions(step)):
            print(f"    it was made with {other}; --from {step.stage} makes it anew")
        own = step.cfg.model_dump(mode="json").items()
        print("   ", ", ".join(f"{k}={v!r}" for k, v in own if k not in Shared.model_fields))
        if hasattr(step.cfg, "global_batch") and not is_probe(step.cfg):
            cfg = step.cfg
            try:
                cut = accumulation(cfg.global_batch, cfg.micro_batch, cfg.processes * cfg.nodes)
                pieces = f"{cut.micro_batch} images × {cut.steps} accumulated"
                if not cfg.micro_batch:
                    pieces = f"{cut.micro_batch} images, in as few pieces as memory holds"
                print(f"    a step of {cfg.global_batch} = {cut.processes} processes × {pieces}")
            except ParameterError as error:
                print(f"    {error}")
