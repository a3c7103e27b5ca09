"""Run a notebook in a kernel that ends with this process, its executed copy whole at every time."""

import logging
import os
import site
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core.files import whole_file
from fgvc_utils.core.processes import die_with, memory_kills, of_memory
from fgvc_utils.core.project import IS_CHECKOUT, SOURCE, VARIABLE

KERNEL = "python3"
# What a user has for sessions of his own: code that runs at the start, a prompt at the end.
SESSIONS = ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHONIOENCODING")


class NotebookFailed(RuntimeError):
    """A cell of a notebook failed, with its traceback, or the kernel ended on its own."""


def _of_interest(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("Passed unknown parameter")


def kernel_environment(folder: Path) -> dict[str, str]:
    """The variables of a kernel: it is this very Python, and runs without the user's profile.

    Start-up files, settings and history of IPython and of Jupyter, a default of matplotlib's and a
    relative PYTHONPATH belong to what a user does by hand, in folders of his own.

    Parameters
    ----------
    folder : Path
        An empty folder, in which the kernel finds no profile.
    """
    found = {name: value for name, value in os.environ.items() if name not in SESSIONS}
    # The checkout that runs here comes first: another one may be installed. What is installed
    # itself must not come before Python's own modules.
    paths = [SOURCE] if IS_CHECKOUT else []
    paths += filter(None, found.get("PYTHONPATH", "").split(os.pathsep))
    absolute = dict.fromkeys(os.path.abspath(path) for path in paths)
    found |= {"PYTHONPATH": os.pathsep.join(absolute), "PYTHONUTF8": "1"}
    # It works in the folder of its notebook, which may lie outside the project.
    found[VARIABLE] = str(PROJECT)
    if not site.ENABLE_USER_SITE:
        found["PYTHONNOUSERSITE"] = "1"
    found |= {"IPYTHONDIR": str(folder), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    plots = find_spec("matplotlib")
    if plots and plots.origin:
        found["MATPLOTLIBRC"] = str(Path(plots.origin).parent / "mpl-data" / "matplotlibrc")
    return found


def run_notebook(source: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Run the notebook `source` with these parameters in its own folder, through papermill.

    It runs in the Python of this process, whatever kernels are installed; see
    `kernel_environment`. The executed copy is written anew after each cell, whole or not at all.
    The system kills the kernel when this process ends, however it ends, and with the kernel all
    that it has started.

    Parameters
    ----------
    source : Path
        The notebook; its folder is the working folder.
    output : Path
        Where the executed copy is written.
    parameters : dict
        Plain data by name, which papermill sets after the parameters cell.

    Raises
    ------
    NotebookFailed
        Where a cell fails, with its traceback, or where the kernel ended on its own.
    """
    # It takes longer to load than all else that a plan or a check needs.
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import LocalHandler, papermill_io

    class Tied(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            # Asked for by its name, it could be one of another installation.
            run = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            local = {"kernel_provisioner": {"provisioner_name": "local-provisioner"}}
            return KernelSpec(argv=run, display_name=KERNEL, language="python", metadata=local)

        async def start_kernel(self, **options: Any) -> None:
            # ipykernel itself looks for its parent once a second, and only while Python runs.
            tie = partial(die_with, os.getpid())
            # At each start it warns that its ports, which are the loopback's, are not encrypted.
            quiet = [*options.pop("extra_arguments", []), "--IPKernelApp.log_level=ERROR"]
            # Not in the user's home, which may be read-only.
            self.connection_file = str(profile / "kernel.json")
            options["env"] = kernel_environment(profile)
            await super().start_kernel(preexec_fn=tie, extra_arguments=quiet, **options)

    class WholeFiles(LocalHandler):
        def write(self, buf: str, path: str) -> None:
            with whole_file(Path(path)) as temporary:
                temporary.write_text(buf, "utf-8")

    # It warns of the hardware's parameters, which no cell repeats; all names were checked before.
    logging.getLogger("papermill").addFilter(_of_interest)
    output = Path(output).absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    # papermill takes the handler whose name a path begins with.
    papermill_io.register(str(output), WholeFiles())
    kills = memory_kills()
    temporary = tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True)
    profile = Path(temporary.name)
    try:
        papermill.execute_notebook(
            source,
            output,
            parameters=parameters,
            cwd=source.parent,
            kernel_name=KERNEL,
            kernel_manager_class=Tied,
            progress_bar=False,
            log_output=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            store_widget_state=False,
            # All that a notebook leaves is written by its cells; a kernel that is asked to end
            # takes half a second, and up to three.
            shutdown_kernel="immediate",
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"{error}\nThe executed notebook shows the cell that failed."
        ) from error
    except DeadKernelError:
        raise NotebookFailed(
            f"the kernel of {source.name} died{of_memory(kills)}. What its cells finished is "
            f"kept, and the next call goes on there; {output} shows how far it came"
        ) from None
    finally:
        temporary.cleanup()
