"""Which of several machines this is, by the variables of torchrun, Slurm's script or an operator.

Counts in no digest.
"""

import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass

# What launchers leave in the environment, and libraries would take for their own.
VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
    *("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"),
)
# What was taken out of the environment, for a process that starts anew.
taken: dict[str, str] = {}


@dataclass(frozen=True)
class Place:
    """This process among those that a launcher has started.

    Attributes
    ----------
    node, nodes
        Which machine this is, and of how many.
    processes
        Ranks a machine; 0 where the launcher leaves it to the contest.
    host
        The address of node 0.
    stands_by
        Whether this is a further process of its machine, where the first one starts all ranks.
    """

    node: int
    nodes: int
    processes: int
    host: str
    stands_by: bool

    def parameters(self) -> dict[str, int | str]:
        """The parameters of the hardware that follow from it."""
        found: dict[str, int | str] = {"nodes": self.nodes}
        if self.nodes > 1:
            # Any free port: the run's folder says which.
            found["rendezvous"] = f"{self.host}:0"
        if self.processes:
            found["processes"] = self.processes
        return found


def taken_place(variables: MutableMapping[str, str] = os.environ) -> Place | None:
    """Read what a launcher says and take it out of the environment; None without a launcher.

    `RANK` and `WORLD_SIZE` count processes; `LOCAL_RANK` and `LOCAL_WORLD_SIZE` those of a machine,
    one where they are missing. `MASTER_ADDR` is node 0.

    Raises
    ------
    ValueError
        Naming the variable that cannot be.
    """
    if not {"RANK", "WORLD_SIZE"} <= variables.keys():
        return None
    rank, count = _number(variables, "RANK"), _number(variables, "WORLD_SIZE", least=1)
    local = _number(variables, "LOCAL_RANK", 0)
    locals_ = _number(variables, "LOCAL_WORLD_SIZE", 1, least=1)
    if rank >= count or local >= locals_ or count % locals_:
        raise ValueError(
            f"RANK={rank} of WORLD_SIZE={count}, LOCAL_RANK={local} of LOCAL_WORLD_SIZE={locals_}: "
            "these do not fit together; see docs/scale.md for what each launcher sets"
        )
    nodes, host = count // locals_, variables.get("MASTER_ADDR", "")
    if nodes > 1 and not host:
        raise ValueError("MASTER_ADDR is not set; give the address of the machine with RANK=0")
    if host == "localhost" and nodes > 1:
        # Some operators call node 0 so on node 0 itself, where others could not reach it.
        host = socket.gethostname()
    node = _number(variables, "GROUP_RANK", rank // locals_)
    for name in [*variables]:
        if name in VARIABLES or name.startswith("TORCHELASTIC_"):
            taken[name] = variables.pop(name)
    return Place(node, nodes, locals_ if locals_ > 1 else 0, host, local > 0)


def _number(
    variables: MutableMapping[str, str], name: str, usual: int | None = None, least: int = 0
) -> int:
    text = variables.get(name, usual)
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < least:
        raise ValueError(f"{name} is {text!r} in the environment; it is a whole number ≥ {least}")
    return value
