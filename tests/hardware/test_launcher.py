"""What torchrun, Slurm's script and operators say of this machine, and what cannot be."""

import pytest

from fgvc_utils.hardware import launcher
from fgvc_utils.hardware.launcher import Place, taken_place


def test_without_a_launcher_there_is_no_place():
    assert taken_place({"PATH": "/bin"}) is None
    assert taken_place({"WORLD_SIZE": "2"}) is None


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        # Slurm's script and Kubernetes: a process a machine
        ({"RANK": "1", "WORLD_SIZE": "3"}, Place(1, 3, 0, "n0", False)),
        # torchrun, eight processes on each of ten machines
        (
            {"RANK": "16", "WORLD_SIZE": "80", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8"},
            Place(2, 10, 8, "n0", False),
        ),
        (
            {
                **{"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"},
                "GROUP_RANK": "1",
            },
            Place(1, 2, 8, "n0", True),
        ),
        # torchrun on one machine
        (
            {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
            Place(0, 1, 2, "n0", False),
        ),
    ],
)
def test_the_place_follows_from_the_variables_which_are_taken(variables: dict, place: Place):
    given = {**variables, "MASTER_ADDR": "n0", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x"}
    environment = given | {"PATH": "/bin"}
    assert taken_place(environment) == place
    assert environment == {"PATH": "/bin"}


def test_parameters_follow_from_the_place():
    assert Place(0, 3, 0, "n0", False).parameters() == {"nodes": 3, "rendezvous": "n0:0"}
    assert Place(0, 1, 2, "n0", False).parameters() == {"nodes": 1, "processes": 2}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "do not fit together"),
        ({"RANK": "0", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}, "do not fit together"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR is not set"),
    ],
)
def test_variables_that_cannot_be_are_named(variables: dict, message: str):
    with pytest.raises(ValueError, match=message):
        taken_place(variables)


def test_localhost_stands_for_a_name_that_others_reach(monkeypatch):
    monkeypatch.setattr(launcher.socket, "gethostname", lambda: "pod-0")
    found = taken_place({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"})
    assert found.host == "pod-0"
