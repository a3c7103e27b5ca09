"""Kernels run in the Python of the pipeline, and without what a user has for sessions by hand."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest

from fgvc_utils.contest.places import PROJECT
from fgvc_utils.pipeline import kernels
from fgvc_utils.pipeline.kernels import kernel_environment, run_notebook

TOLD = """
import os, sys, matplotlib
import fgvc_utils
told = [sys.executable, fgvc_utils.__file__, matplotlib.get_backend()]
told += [matplotlib.rcParams['lines.linewidth']]
told += [x, 'started' in globals(), os.environ.get('IPYTHONDIR') == os.environ.get('OTHER')]
print(*told, sep=chr(10))
"""


def test_a_kernels_variables_are_not_those_of_sessions_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PYTHONSTARTUP", "PYTHONINSPECT", "MPLBACKEND", "MATPLOTLIBRC", "IPYTHONDIR"):
        monkeypatch.setenv(name, "of the user")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "lib", "/opt/x", "lib"]))
    monkeypatch.setenv("KEPT", "é")
    found = kernel_environment(tmp_path)
    assert "of the user" not in found.values() and found["KEPT"] == "é"
    wanted = [str(PROJECT), str(tmp_path / "lib"), "/opt/x"]
    assert found["PYTHONPATH"].split(os.pathsep) == wanted
    assert found["FGVC_PROJECT"] == str(PROJECT)
    # What is installed comes after Python's own modules, where a path in the variable would not.
    monkeypatch.setattr(kernels, "IS_CHECKOUT", False)
    assert kernel_environment(tmp_path)["PYTHONPATH"].split(os.pathsep) == wanted[1:]
    assert Path(found["MATPLOTLIBRC"]).is_file() and found["IPYTHONDIR"] == str(tmp_path)


@pytest.mark.slow
def test_a_kernel_is_this_python_whatever_is_installed_under_its_name(tmp_path, monkeypatch):
    place = tmp_path / "ein Ort é"
    spec = {"argv": ["/bin/false"], "display_name": "Python 3", "language": "python"}
    for file, text in (
        ("kernels/python3/kernel.json", json.dumps(spec)),
        ("ipython/profile_default/startup/0.py", "started = 1"),
        ("startup.py", "started = 1"),
        ("mine/matplotlibrc", "lines.linewidth: 77"),
    ):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text)
    monkeypatch.setenv("JUPYTER_PATH", str(place))
    monkeypatch.setenv("IPYTHONDIR", str(place / "ipython"))
    monkeypatch.setenv("OTHER", str(place / "ipython"))
    monkeypatch.setenv("PYTHONSTARTUP", str(place / "startup.py"))
    monkeypatch.setenv("MATPLOTLIBRC", str(place / "mine/matplotlibrc"))
    monkeypatch.setenv("MPLBACKEND", "TkAgg")
    cells = [nbformat.v4.new_code_cell(source) for source in ("x: int = 1", TOLD)]
    cells[0].metadata["tags"] = ["parameters"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, place / "a.ipynb")
    run_notebook(place / "a.ipynb", place / "out.ipynb", {"x": 2})
    (said,) = [
        output.text
        for cell in nbformat.read(place / "out.ipynb", 4).cells
        for output in cell.get("outputs", [])
    ]
    package = str(PROJECT / "fgvc_utils" / "__init__.py")
    inline = "module://matplotlib_inline.backend_inline"
    assert said.split("\n")[:-1] == [sys.executable, package, inline, "1.5", "2", "False", "False"]
