"""A contest on warm ranks, here and on other machines: how the pipeline starts and ends them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fgvc_utils.contest.config import Shared
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.hardware import launch
from fgvc_utils.hardware.join import join
from fgvc_utils.hardware.launcher import Place, taken_place
from fgvc_utils.hardware.network import await_name
from fgvc_utils.jobs.running import hardware
from fgvc_utils.pipeline import interrupts
from fgvc_utils.pipeline.contest_file import Step

# How long the name of node 0 may take to be known in a network that is just being made.
NAME_SECONDS = 300


def place_of_this(node_rank: int | None) -> Place | None:
    """Which machine this is, as a launcher's variables or the command line say; None for alone.

    Raises
    ------
    ParameterError
        The variables do not fit together.
    """
    try:
        place = taken_place()
    except ValueError as error:
        raise ParameterError(str(error)) from None
    if place is None and node_rank:
        # Where node 0 is, the run's folder says.
        return Place(node_rank, node_rank + 1, 0, "", stands_by=False)
    return place


def on_machines(steps: list[Step], place: Place | None) -> list[Step]:
    """The steps with the machines that a launcher has given, whatever the contest file says."""
    if place is None:
        return steps
    update = place.parameters()
    return [replace(step, cfg=step.cfg.model_copy(update=update)) for step in steps]


def join_run(steps: list[Step], place: Place) -> int:
    """Work for the run that node 0 executes; the exit code.

    On one machine the pipeline starts all ranks, and a launcher's further processes end at once.
    """
    cfg = steps[0].cfg
    if place.nodes == 1:
        return 0
    try:
        return int(not join(cfg.folder, place.node, stands_by=place.stands_by))
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1


@dataclass
class Ranks:
    """The warm ranks of a run; `well` says at the end how it went."""

    trusted: bool
    well: bool = False

    def start_early(self, steps: list[Step]) -> None:
        """Begin with the imports while the contest is checked, where a step is not done.

        Several machines wait until it is sure that no other pipeline works on the run.
        """
        waiting = [step for step in steps if not step.stamp.is_file()]
        if waiting and waiting[0].cfg.nodes == 1:
            self.start(waiting[0].cfg)

    def open(self, steps: list[Step]) -> None:
        """Let other machines join, also where nothing is to be done, so that they are told so."""
        cfg = steps[0].cfg
        if cfg.nodes == 1:
            return
        host, _ = hardware(cfg).endpoint()
        try:
            await_name(host, NAME_SECONDS)
        except ValueError as error:
            raise ParameterError(str(error)) from None
        self.start(cfg)

    def start(self, cfg: Shared) -> None:
        """Have the ranks ready for a step, also where those of the last one were ended.

        Raises
        ------
        ParameterError
            The hardware is not there.
        """
        try:
            launch.start(hardware(cfg), cfg.folder, idle=False, trusted=self.trusted)
        except ValueError as error:
            raise ParameterError(str(error)) from None


@contextmanager
def warm_ranks(*, trusted: bool) -> Iterator[Ranks]:
    """The ranks of a run, which end with the block.

    Parameters
    ----------
    trusted
        Whether a launcher gave the machines, whose addresses are then not checked.
    """
    ranks = Ranks(trusted)
    # An interrupt ends all processes at once; the other machines are to be told first.
    interrupts.before.append(launch.terminate)
    try:
        yield ranks
    finally:
        interrupts.before.remove(launch.terminate)
        launch.end(well=ranks.well)
