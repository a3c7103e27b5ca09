"""Fixtures for tests that work in a real JupyterLab with a real browser.

`lab` opens notebooks below `lab_folder`; a test module that wants other notebooks overrides
`lab_folder` (and `lab_environment` for what their kernels find in the environment).
"""

import shutil

import pytest
from jupyterlab_driver import OpenNotebook, browser_page, find_browser, jupyterlab
from review_notebook import write_review_notebook

from fgvc_utils.contest.journal import Journal


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "browser":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def browser():
    """The path of the installed Chromium; skips where there is none."""
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium is installed, so nothing can be clicked (Debian: chromium)")
    return path


@pytest.fixture(scope="module")
def lab_folder(tmp_path_factory):
    """The folder that JupyterLab shows, with review.ipynb."""
    folder = tmp_path_factory.mktemp("notebooks")
    write_review_notebook(folder)
    return folder


@pytest.fixture(scope="module")
def lab_environment():
    """Environment variables that the kernels get besides those of this process."""
    return {}


@pytest.fixture(scope="module")
def lab_server(browser, lab_folder, lab_environment, tmp_path_factory):
    with jupyterlab(lab_folder, tmp_path_factory.mktemp("jupyter"), lab_environment) as server:
        yield server


@pytest.fixture(scope="session")
def playwright_driver():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module")
def page(browser, playwright_driver, tmp_path_factory):
    with browser_page(playwright_driver, browser, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def open_notebook(lab_server, page):
    """A function that opens a notebook by its path below `lab_folder`.

    The kernels go on until the module's last test is done.
    """
    opened = []

    def open_one(path: str) -> OpenNotebook:
        opened.append(OpenNotebook(page, lab_server, path))
        return opened[-1]

    yield open_one
    for notebook in opened:
        notebook.shut_down_kernel()


@pytest.fixture
def journal(lab_folder):
    shutil.rmtree(lab_folder / "decisions", ignore_errors=True)
    return Journal(lab_folder / "decisions" / "02.csv")


@pytest.fixture(scope="module")
def opened(open_notebook):
    return open_notebook("review.ipynb")


@pytest.fixture
def notebook(opened, journal):
    """The notebook with a new gallery over an empty journal."""
    opened.run_cell(0)
    opened.run_cell(1)
    return opened
