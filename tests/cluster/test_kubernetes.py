"""The job for Kubernetes against the schema of the Kubeflow training operator. It was never run."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from fgvc_utils.contest.places import PROJECT

FILE = PROJECT / "cluster/kubernetes.yaml"
SCHEMA = json.loads((Path(__file__).parents[1] / "support/pytorchjob.schema.json").read_text())


@pytest.fixture
def job() -> dict:
    # Without the aliases of the file, so that a test changes one replica alone.
    return copy.deepcopy(json.loads(json.dumps(yaml.safe_load(FILE.read_text("utf-8")))))


def container(job: dict, replica: str) -> dict:
    (one,) = job["spec"]["pytorchReplicaSpecs"][replica]["template"]["spec"]["containers"]
    return one


def test_the_job_fits_the_operator_s_schema(job: dict):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(job, SCHEMA)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda job: job.update(apiVersion="kubeflow.org/v2"),
        lambda job: job["spec"].pop("pytorchReplicaSpecs"),
        lambda job: job["spec"]["pytorchReplicaSpecs"].update(Helper={}),
        lambda job: job["spec"]["pytorchReplicaSpecs"]["Master"].update(replicas=2),
        lambda job: job["spec"]["pytorchReplicaSpecs"]["Worker"].update(replicas="nine"),
        lambda job: job["spec"]["pytorchReplicaSpecs"]["Worker"].update(restartPolicy="Sometimes"),
        lambda job: container(job, "Worker").update(name="fgvc"),
        lambda job: container(job, "Worker").update(comand=["python"]),
        lambda job: container(job, "Worker")["resources"]["limits"].update(memory="128 GB"),
        lambda job: container(job, "Worker")["volumeMounts"][0].pop("mountPath"),
    ],
)
def test_a_job_that_the_operator_would_refuse_does_not_fit(job: dict, spoil: Callable):
    spoil(job)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def test_all_machines_run_one_command_and_share_what_they_write(job: dict):
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert replicas["Master"]["replicas"] == 1 and replicas["Worker"]["replicas"] >= 1
    assert replicas["Master"]["template"] == replicas["Worker"]["template"]
    one, pod = container(job, "Worker"), replicas["Worker"]["template"]["spec"]
    assert one["command"][:3] == ["python", "-m", "fgvc_utils.pipeline"]
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert one["workingDir"].startswith(mounts["shared"])
    assert volumes["memory"]["emptyDir"]["medium"] == "Memory" and mounts["memory"] == "/dev/shm"


def test_it_says_that_it_is_untried():
    assert "UNTRIED" in FILE.read_text("utf-8")
