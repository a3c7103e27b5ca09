"""The Dockerfile and the devcontainer, as far as they can be checked without building them."""

import json
import re
import shlex
import subprocess

import pytest
from installed_kit import FOLDERS, SOURCES

from fgvc_utils.contest.places import PROJECT

TEXT = re.sub(r"\\\n", "", (PROJECT / "Dockerfile").read_text("utf-8"))
LINES = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and line[0] != "#"]
STAGES = [words.split(" AS ")[1] for word, words in LINES if word == "FROM"]


def of(instruction):
    return [words for word, words in LINES if word == instruction]


def copied():
    """What is copied from the checkout: each place once."""
    lists = [shlex.split(words)[:-1] for words in of("COPY") if not words.startswith("--from")]
    return sorted(place for places in lists for place in places)


def test_what_is_copied_is_there_and_is_what_a_wheel_takes():
    assert copied() == sorted([*SOURCES, *FOLDERS, "requirements.txt"])
    assert all((PROJECT / place).exists() for place in copied())


def test_what_is_copied_is_let_through_and_nothing_else():
    rules = (PROJECT / ".dockerignore").read_text("utf-8").split()
    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == copied()


def test_stages_and_arguments_that_are_named_are_there():
    for words in of("COPY"):
        if source := re.match(r"--from=(\w+)", words):
            assert source[1] in STAGES
    for word, words in LINES:
        if word == "FROM":
            base = words.split(" AS ")[0]
            assert base in ("${BASE}", *STAGES)
    for argument in [words.split("=")[0] for words in of("ARG")]:
        assert re.search(rf"\$\{{?{argument}\b", TEXT), f"nothing reads {argument}"
    container = json.loads((PROJECT / ".devcontainer/devcontainer.json").read_text("utf-8"))
    build = container["build"]
    assert build["target"] in STAGES
    assert (PROJECT / ".devcontainer" / build["dockerfile"]).resolve() == PROJECT / "Dockerfile"
    assert container["postCreateCommand"] == "make env"


def test_no_address_of_an_index_is_written_down():
    assert "://" not in TEXT


def packages_for(tmp_path, device, index=""):
    """Run the step that chooses packages with a pip that only notes what it is asked for."""
    (step,) = [words for words in of("RUN") if "requirements.txt" in words]
    (tmp_path / "requirements.txt").write_text((PROJECT / "requirements.txt").read_text())
    pip = 'pip() { echo "pip $*" >> asked; [ "$2" != -r ] || cp "$3" taken; }\n'
    script = f"{pip}{step.replace('cd /tmp', 'cd .')}"
    given = {"DEVICE": device, "TORCH_INDEX": index, "PATH": "/usr/bin:/bin"}
    options = {"cwd": tmp_path, "env": given, "capture_output": True, "text": True}
    return subprocess.run(["/bin/sh", "-c", script], **options)


def test_the_step_that_installs_packages_takes_those_of_the_device(tmp_path):
    pins = (PROJECT / "requirements.txt").read_text().splitlines()
    assert packages_for(tmp_path, "cuda").returncode == 0
    assert (tmp_path / "taken").read_text().splitlines() == pins
    (tmp_path / "asked").unlink()
    assert packages_for(tmp_path, "cpu", "an-index").returncode == 0
    first = (tmp_path / "asked").read_text().splitlines()[0]
    assert re.fullmatch(r"pip install --index-url an-index torch==\S+ torchvision==\S+", first)
    left = set(pins) - set((tmp_path / "taken").read_text().splitlines())
    assert {re.match(r"[a-z]+", pin)[0] for pin in left} == {
        "cuda", "nvidia", "torch", "torchvision", "triton"
    }  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_device_that_cannot_be_built_for_is_an_error_that_says_so(tmp_path, device):
    done = packages_for(tmp_path, device)
    assert done.returncode == 1 and "DEVICE" in done.stderr
    assert not (tmp_path / "asked").exists()
