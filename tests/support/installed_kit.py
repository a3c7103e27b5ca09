"""The kit as a wheel in an environment of its own that takes all other packages from this one."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from fgvc_utils.contest.places import PROJECT

# What a wheel is built from.
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
FOLDERS = ("fgvc_utils", "notebooks", "params", "docs")


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout, without network; returns its path."""
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.egg-info")
    for name in FOLDERS:
        shutil.copytree(PROJECT / name, source / name, ignore=ignore)
    for name in SOURCES:
        shutil.copy(PROJECT / name, source)
    build = "from setuptools import build_meta; build_meta.build_wheel('../dist')"
    (folder / "dist").mkdir()
    call = [sys.executable, "-c", build]
    done = subprocess.run(call, cwd=source, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "dist").glob("fgvc_kit-*.whl")
    return wheel


def make_environment(folder: Path) -> Path:
    """Make an environment without the kit; returns its folder of programs."""
    call = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(call, check=True, capture_output=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    # Files such as that of an editable kit are not read from there, only packages are found.
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def install(programs: Path, wheel: Path) -> None:
    """Install the wheel as pip does, all other packages being there."""
    call = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-index", str(wheel)]
    done = subprocess.run(call, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr


def environment(**more: str) -> dict[str, str]:
    """The variables of a shell in which nobody has heard of the checkout."""
    own = ("PYTHONPATH", "FGVC_PROJECT", "FGVC_DATA", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in own} | more
