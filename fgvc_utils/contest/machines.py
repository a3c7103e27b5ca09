"""How the hardware is used: the same parameters for every stage, declared here alone.

No notebook's parameters cell repeats them. A contest file sets them for all stages or in a stage's
section, papermill by `-p processes 2`, a person by a line such as `processes = 2` in the cell.

Counts in no digest.
"""

from typing import Annotated, Literal

from pydantic import Field

from fgvc_utils.contest.parameters import Count, CountOrZero, Parameters


class Machines(Parameters):
    """Processes, machines and devices; none of it changes what comes out but the last digits."""

    processes: Count = Field(1, description="processes a machine; on CUDA one a GPU")
    nodes: Count = Field(1, description="machines")
    rendezvous: str = Field("", description="host:port of the first machine; only for several")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="cpu, cuda, or auto: CUDA where there is one"
    )
    threads: CountOrZero = Field(0, description="CPU threads a process; 0 shares the cores")
    workers: Annotated[int, Field(ge=-1)] = Field(
        -1, description="processes that prepare pictures, for each that trains; -1 chooses"
    )
    warm_ranks: bool = Field(
        True, description="processes are kept ready for the next jobs; false starts them anew"
    )


NAMES = frozenset(Machines.model_fields)
