"""The base of all stage records: types with their ranges, and errors that name the parameter.

Counts in no digest.
"""

import ast
import difflib
import re
import reprlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]

# Names that Windows keeps for devices, with any ending: a run may be copied there.
WINDOWS_DEVICES = {"con", "prn", "aux", "nul"}
WINDOWS_DEVICES |= {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}


def _folder_name(name: str) -> str:
    if name.endswith(".") or name.split(".")[0].lower() in WINDOWS_DEVICES:
        raise ValueError("Windows cannot have a folder of this name; give another one")
    return name


FolderName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100),
    AfterValidator(_folder_name),
]


# Owner, name and, after an @, the revision.
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def _network_name(name: str) -> str:
    source, colon, place = name.partition(":")
    if colon and source == "hf-hub" and HUB_ID.fullmatch(place):
        return name
    if colon and source == "local-dir" and place.strip():
        return name
    if colon or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "a network is a timm name, hf-hub:<owner>/<name> or local-dir:<folder with its "
            "config.json and weights>"
        )
    return _folder_name(name)


# A timm name, `hf-hub:owner/name`, or `local-dir:folder`.
NetworkName = Annotated[str, AfterValidator(_network_name)]

Ratio = Annotated[float, Field(ge=1, le=3)]
Pixels = Annotated[int, Field(ge=16, le=4096)]
Table = Literal["01_noise", "02_coarse", "03_fine", "04_lowq"]
# The stages that write a label table, in order.
TABLES: tuple[str, ...] = get_args(Table)


class ParameterError(ValueError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200
_SHORT.maxlist = _SHORT.maxdict = 20


def in_short(value: Any) -> str:
    """A parameter's value as Python writes it, cut in the middle where it is long."""
    return _SHORT.repr(value)


def near_name(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is nearest to a misspelt one; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; near it is {near[0]!r}" if near else ""


def _explain(error: ValidationError, record: str, known: Iterable[str]) -> str:
    lines = [f"{record}: {error.error_count()} parameter(s) need a change."]
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"]) or "together"
        value = problem.get("input")
        hint = ""
        if problem["type"] == "extra_forbidden":
            hint = "; this stage has no such parameter: check the spelling"
            # Names within a nested record are not those of the stage.
            hint += near_name(name, known) if len(problem["loc"]) == 1 else ""
        elif problem["type"] == "missing":
            hint = "; give it a value in the parameters cell"
        elif problem["type"] == "string_type" and (value is None or isinstance(value, bool)):
            hint = "; YAML reads yes, no, on, off and ~ so: where it is text, write it in quotes"
        elif problem["type"] == "string_type" and isinstance(value, int | float):
            hint = (
                f"; write it as text: in YAML '{value}' in quotes, with papermill -r {name} {value}"
            )
        hidden = problem["type"] == "missing" or name == "together"
        # Where a notebook's cell took the name for something else, it may be a whole table.
        shown = "" if hidden else f" = {in_short(value)}"
        lines.append(f"  {name}{shown}: {problem['msg']}{hint}")
    return "\n".join(lines)


def injected_names() -> set[str]:
    """Names that papermill set in this kernel; it heads its cell with `# Parameters`."""
    return _assigned("# Parameters\n")


def written_names() -> set[str]:
    """Names that the parameters cell set in this kernel; every notebook's begins with `# run`."""
    return _assigned("# run\n")


def _assigned(head: str) -> set[str]:
    """Names that the cells of this kernel with a certain first line assign."""
    if "IPython" not in sys.modules:
        return set()
    shell = sys.modules["IPython"].get_ipython()
    names: set[str] = set()
    for cell in shell.user_ns.get("In", []) if shell else []:
        for node in ast.parse(cell).body if cell.startswith(head) else []:
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return names


class Parameters(BaseModel):
    """Base of all stage records: unknown names raise, text stays text, numbers may come as text.

    Raises
    ------
    ParameterError
        Naming each parameter that is unknown, missing, of the wrong type or out of range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ParameterError(
                _explain(error, type(self).__name__, type(self).model_fields)
            ) from None


@dataclass(frozen=True)
class Accumulation:
    """How one optimiser step is cut up over processes and micro-batches."""

    processes: int
    micro_batch: int
    steps: int


def accumulation(global_batch: int, micro_batch: int, processes: int) -> Accumulation:
    """Micro-batches each process accumulates before a step: global / (processes × micro).

    Parameters
    ----------
    global_batch : int
        Images a step, over all processes.
    micro_batch : int
        Images a process takes at once; 0 stands for the whole of its share, which is cut up later
        where it does not fit in memory.
    processes : int
        Processes of all machines together.

    Raises
    ------
    ParameterError
        Where it does not divide.
    """
    if not micro_batch:
        if global_batch % processes:
            raise ParameterError(
                f"global_batch {global_batch} is not a multiple of {processes} processes; change "
                "one of the two"
            )
        return Accumulation(processes, global_batch // processes, 1)
    steps, rest = divmod(global_batch, micro_batch * processes)
    if rest or not steps:
        raise ParameterError(
            f"global_batch {global_batch} is not a multiple of processes × micro_batch = "
            f"{processes} × {micro_batch} = {processes * micro_batch}; change one of the three"
        )
    return Accumulation(processes, micro_batch, steps)
