"""pyproject.toml, requirements.txt, environment.yml and what is installed say the same."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
LINES = (PROJECT / "requirements.txt").read_text("utf-8").splitlines()
PIN_LINES = [line for line in LINES if line.strip() and not line.startswith("#")]
WANTED = [
    Requirement(text)
    for text in PYPROJECT["dependencies"] + PYPROJECT["optional-dependencies"]["test"]
]


def marker_environment(python: str) -> dict[str, str]:
    major_minor = ".".join(python.split(".")[:2])
    return {
        "python_full_version": python,
        "python_version": major_minor,
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }


def pins(environment: dict[str, str] | None = None) -> list[Requirement]:
    """The pins that hold in an environment; by default the one that runs the tests."""
    parsed = [Requirement(line) for line in PIN_LINES]
    return [p for p in parsed if p.marker is None or p.marker.evaluate(environment)]


@pytest.mark.parametrize("line", PIN_LINES)
def test_a_requirement_is_a_plain_pin(line):
    assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+]*( ; .+)?", line), (
        f"requirements.txt: {line!r} is not name==version; addresses and options do not belong here"
    )


def test_requirements_name_no_address():
    found = [line for line in LINES if "://" in line or "index" in line or " @ " in line]
    assert not found, f"requirements.txt names an address: {found}"


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
@pytest.mark.parametrize("python", ["3.11.7", "3.12.3", "3.13.1"])
def test_dependency_is_pinned_within_its_bounds(wanted, python):
    name = canonicalize_name(wanted.name)
    found = [p for p in pins(marker_environment(python)) if canonicalize_name(p.name) == name]
    assert len(found) == 1, f"requirements.txt pins {wanted.name} {len(found)} times, not once"
    (pin,) = found[0].specifier
    assert pin.operator == "==" and wanted.specifier.contains(pin.version, prereleases=True), (
        f"requirements.txt pins {found[0]}, pyproject.toml asks for {wanted}"
    )


@pytest.mark.parametrize("python", ["3.11.7", "3.12.3", "3.13.1"])
def test_nothing_is_pinned_twice(python):
    names = [canonicalize_name(pin.name) for pin in pins(marker_environment(python))]
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)


def test_conda_installs_exactly_the_pins():
    conda = yaml.safe_load((PROJECT / "environment.yml").read_text("utf-8"))
    assert conda == {
        "name": PYPROJECT["name"],
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "pip", {"pip": ["-r requirements.txt", "-e ."]}],
    }


def test_python_versions_agree():
    conda = yaml.safe_load((PROJECT / "environment.yml").read_text("utf-8"))
    python = conda["dependencies"][0].removeprefix("python=")
    allowed = SpecifierSet(PYPROJECT["requires-python"])
    assert allowed.contains(python) and not allowed.contains("3.10.99")
    # The Makefile refuses an older Python before it installs anything.
    major, minor = python.split(".")
    assert f"sys.version_info < ({major}, {minor})" in (PROJECT / "Makefile").read_text("utf-8")


def test_installed_versions_are_the_pins():
    differences = []
    for pin in pins():
        try:
            installed = version(pin.name)
        except PackageNotFoundError:
            differences.append(f"{pin} is not installed")
            continue
        if not pin.specifier.contains(installed, prereleases=True):
            differences.append(f"{pin}, installed is {installed}")
    assert not differences, "run `make env`:\n" + "\n".join(differences)
