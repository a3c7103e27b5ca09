"""A JupyterLab of its own on this machine, and a browser that works in it as a person would."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WINDOW = {"width": 1280, "height": 960}
START_SECONDS = 120
WAIT_MS = 120_000


def find_browser() -> str | None:
    """The installed Chromium's path, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Server:
    """A running JupyterLab: its address, token, and the folder that it shows."""

    url: str
    token: str
    folder: Path
    log: Path


@contextmanager
def jupyterlab(folder: Path, private: Path, environment: dict[str, str] | None = None):
    """Run JupyterLab on `folder`, with settings, data and runtime files under `private`.

    Yields a `Server`. `environment` is what kernels find besides the variables of this process.
    Raises RuntimeError with the server's log where it does not answer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", secrets.token_hex(16), folder, private / "lab.log")
    _write_settings(private)
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    own = {name: str(private / place) for name, place in places.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += [f"--IdentityProvider.token={server.token}", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    with open(server.log, "wb") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **own, **(environment or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_answers(server, process)
        yield server
    finally:
        _stop(process)


def _write_settings(private: Path) -> None:
    """Keep the news popup away: it would take the first click."""
    labconfig = private / "config" / "labconfig"
    labconfig.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    overrides = {"@jupyterlab/apputils-extension:notification": quiet}
    (labconfig / "default_setting_overrides.json").write_text(json.dumps(overrides))


def _wait_until_answers(server: Server, process: subprocess.Popen) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/api?token={server.token}", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{server.log.read_text(errors='replace')}")


def _stop(process: subprocess.Popen) -> None:
    """Ask the server to end, which ends its kernels; then make sure of both."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class OpenNotebook:
    """A notebook that is open in the browser.

    Cells are counted from 0, text cells too. Everything a test waits for raises playwright's
    TimeoutError where it does not come.
    """

    def __init__(self, page: Page, server: Server, path: str):
        """Open `path` (relative to the server's folder) and wait for an idle kernel."""
        self.page = page
        self._server = server
        self._path = path
        self.reload()

    def reload(self) -> None:
        """Load the browser page anew, as F5 does: the kernel goes on."""
        # `reset` forgets the layout that an earlier test left.
        self.page.goto(
            f"{self._server.url}/lab/tree/{self._path}?token={self._server.token}&reset",
            timeout=WAIT_MS,
        )
        self.page.wait_for_function(
            "path => window.jupyterapp?.shell.currentWidget?.context?.path === path",
            arg=self._path,
            timeout=WAIT_MS,
        )
        # Asked again and again: a promise of a kernel that restarts meanwhile is never kept.
        self.page.wait_for_function(
            """() => {
              const panel = window.jupyterapp.shell.currentWidget;
              return panel.context.isReady && panel.sessionContext.isReady;
            }""",
            timeout=WAIT_MS,
        )
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until the kernel is connected and has nothing to do."""
        self.page.wait_for_function(
            """() => {
              const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel;
              return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
            }""",
            timeout=WAIT_MS,
        )

    def run_cell(self, number: int) -> None:
        """Run one cell to its end; raises AssertionError with its traceback where it fails."""
        self.start_cell(number)
        self.page.wait_for_function(
            """number => {
              const cell = window.jupyterapp.shell.currentWidget.content.widgets[number].model;
              return cell.type !== 'code' || cell.executionState === 'idle';
            }""",
            arg=number,
            timeout=WAIT_MS,
        )
        self.wait_until_idle()
        errors = [out for out in self.outputs(number) if out["output_type"] == "error"]
        assert not errors, "\n".join(errors[0]["traceback"])

    def start_cell(self, number: int) -> None:
        """Run one cell and return at once."""
        # The command, because a typed Ctrl+Enter gets lost while the notebook settles.
        self._evaluate(
            """(panel, number) => {
              panel.content.activeCellIndex = number;
              panel.content.deselectAll();
              const run = window.jupyterapp.commands.execute('notebook:run-cell');
              run.catch(() => null);
            }""",
            number,
        )

    def run_all(self) -> None:
        """Run every cell, one after another, each to its end."""
        for number in range(self.cell_count()):
            self.run_cell(number)

    def restart_kernel(self) -> None:
        """Restart the kernel without asking, and wait until it is idle."""
        self._evaluate("panel => panel.sessionContext.restartKernel()")
        self.wait_until_idle()

    def run_code(self, code: str) -> None:
        """Have the kernel run code that is in no cell; where it ends the kernel, wait for that."""
        self._evaluate(
            """(panel, code) => {
              const kernel = panel.sessionContext.session.kernel;
              const changed = new Promise((resolve) => {
                kernel.statusChanged.connect((_, status) => {
                  if (["autorestarting", "restarting", "dead"].includes(status)) resolve(status);
                });
              });
              const done = kernel.requestExecute({ code }).done.catch(() => null);
              return Promise.race([changed, done.then(() => null)]).then(() => null);
            }""",
            code,
        )

    def save(self) -> None:
        """Save the notebook to its file."""
        self._evaluate("panel => panel.context.save()")

    def shut_down_kernel(self) -> None:
        """End this notebook's kernel, so that it takes no memory from what comes next."""
        self._evaluate("panel => panel.sessionContext.shutdown()")

    def cell_count(self) -> int:
        return self._evaluate("panel => panel.content.widgets.length")

    def sources(self) -> list[str]:
        """The text of each cell."""
        return self._evaluate(
            "panel => panel.content.widgets.map(cell => cell.model.sharedModel.getSource())"
        )

    def outputs(self, number: int) -> list[dict]:
        """The outputs of a code cell as they would be saved."""
        return self._evaluate(
            "(panel, number) => panel.content.widgets[number].model.outputs?.toJSON() ?? []", number
        )

    def cell(self, number: int) -> Locator:
        """The cell on the screen."""
        self._evaluate(
            "(panel, number) => panel.content.scrollToItem(number, 'smart')",
            number,
        )
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{number}"]')

    def mode(self) -> str:
        """JupyterLab's keyboard mode, `command` or `edit`."""
        return self._evaluate("panel => panel.content.mode")

    def set_theme(self, name: str) -> None:
        """Change to a theme such as `JupyterLab Dark`."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name
        )
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light",
            arg=str("Dark" not in name).lower(),
            timeout=WAIT_MS,
        )
        # JupyterLab covers itself while the theme changes.
        self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=WAIT_MS)

    def _evaluate(self, function: str, argument: object = None):
        return self.page.evaluate(
            f"argument => ({function})(window.jupyterapp.shell.currentWidget, argument)", argument
        )


@contextmanager
def browser_page(playwright, browser: str, private: Path) -> Iterator[Page]:
    """A page in a browser of its own, with a profile that is thrown away."""
    context = playwright.chromium.launch_persistent_context(
        private,
        executable_path=browser,
        headless=True,
        args=BROWSER_FLAGS,
        viewport=WINDOW,
    )
    try:
        yield context.pages[0]
    finally:
        context.close()
