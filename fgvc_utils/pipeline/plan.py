"""What would become of each step of a contest."""

from dataclasses import dataclass

from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.parameters import ParameterError, accumulation
from fgvc_utils.pipeline.contest_file import Step
from fgvc_utils.pipeline.stamps import other_versions, some_of, tables_before, why


@dataclass(frozen=True)
class Planned:
    """What would become of a step: why it runs, empty where it is skipped.

    Not `sure` is a step that is done as things are now, and reads what another one writes anew: it
    runs unless that comes out as before.
    """

    step: Step
    reason: str
    sure: bool = True


def plan(steps: list[Step], first: str | None, only: str | None) -> list[Planned]:
    """What would become of each step, those after a change included.

    `only` runs that stage alone, `first` that stage and all after it, whether done or not.
    """
    check_stage_names(steps, first, only)
    planned: list[Planned] = []
    for step in steps:
        reason, sure = reason_to_run(step, first, only), True
        anew = [p.step.name for p in planned if p.reason and _reads(step, p.step)]
        if not reason and anew and not only:
            reason, sure = f"it reads what {some_of(anew)} writes anew", False
        planned.append(Planned(step, reason, sure))
    return planned


def _reads(step: Step, earlier: Step) -> bool:
    """Whether a step reads what an earlier one writes."""
    cfg = step.cfg
    if earlier.stage in tables_before(step):
        return True
    if earlier.stage == "01_noise":
        return step.stage != "40_submit"
    if earlier.stage == "30_ensemble":
        return step.stage == "40_submit"
    if step.stage == "20_distill":
        taught = earlier.stage == "10_train" if not cfg.teachers else True
        return taught and getattr(earlier.cfg, "name", "") in (cfg.teachers or [earlier.cfg.name])
    if step.stage == "30_ensemble" and earlier.stage in ("10_train", "20_distill"):
        return not cfg.models or earlier.cfg.name in cfg.models
    return False


def check_stage_names(steps: list[Step], first: str | None, only: str | None) -> None:
    stages = [step.stage for step in steps]
    for name in (first, only):
        if name and name not in stages:
            raise ParameterError(
                f"no stage {name!r} in this contest; it has {', '.join(dict.fromkeys(stages))}"
            )


def reason_to_run(step: Step, first: str | None, only: str | None) -> str:
    if only:
        return "asked for" if step.stage == only else ""
    if first and step.stage >= first:
        return "asked for"
    return why(step)


def print_plan(planned: list[Planned]) -> None:
    """Say what each step would do, why, and with which parameters beside the shared ones."""
    for step, reason, sure in ((p.step, p.reason, p.sure) for p in planned):
        what = "run" if sure else "may run"
        print(f"{step.name}: {f'{what}, {reason}' if reason else 'skip, done before'}")
        if not reason and (other := other_versions(step)):
            print(f"    it was made with {other}; --from {step.stage} makes it anew")
        own = step.cfg.model_dump(mode="json").items()
        print("   ", ", ".join(f"{k}={v!r}" for k, v in own if k not in Shared.model_fields))
        if hasattr(step.cfg, "global_batch"):
            cfg = step.cfg
            try:
                cut = accumulation(cfg.global_batch, cfg.micro_batch, cfg.processes * cfg.nodes)
                print(
                    f"    a step of {cfg.global_batch} = {cut.processes} processes × "
                    f"{cut.micro_batch} images × {cut.steps} accumulated"
                )
            except ParameterError as error:
                print(f"    {error}")
