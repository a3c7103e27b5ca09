"""compile: the same fit through torch.compile, or without it where it fails."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_jobs import draw_pictures, small_job

from fgvc_utils.contest.contest_file import notebook_defaults
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.launch import launch
from fgvc_utils.hardware.plan import Hardware
from fgvc_utils.hardware.progress import Progress, read_events
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training import compiling
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network
from fgvc_utils.training.params import TrainParams
from fgvc_utils.training.worker import carry_out

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
RECIPE = {
    "backbone": "test_efficientnet",
    "ema_decay": 0.6,
    "dropout": 0.2,
    "keep_every_step": True,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    drawn = draw_pictures(tmp_path_factory.mktemp("pictures"), 80)
    held = drawn.index % 5 == 0
    return drawn.assign(fit=~held, validate=held)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch):
    """Sets what compiles, and starts without anything compiled before."""

    def choose(name) -> None:
        torch._dynamo.reset()
        monkeypatch.setattr(compiling, "BACKEND", name)

    yield choose
    torch._dynamo.reset()


def carried_out(job: Job, rows: pd.DataFrame) -> tuple[dict, list[str]]:
    """The weights that a job leaves, and its notes."""
    write_job(job, rows)
    progress = Progress(Path(job.folder) / "events.jsonl")
    carry_out(job, Processes(), progress)
    notes = [e["text"] for e in read_events(progress.path)[0] if e["event"] == "note"]
    return load_file(Path(job.folder) / "weights.safetensors"), notes


def assert_near(one: dict, other: dict, apart: float) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=apart, rtol=apart)


def test_a_compiled_fit_is_the_plain_one_and_leaves_the_same_files(rows, tmp_path, backend):
    calls = []

    def counting(graph, inputs):
        calls.append(len(inputs))
        return graph.forward

    backend(counting)
    plain, _ = carried_out(small_job(tmp_path / "plain", **RECIPE), rows)
    assert not calls
    job = small_job(tmp_path / "compiled", compile=True, **RECIPE)
    weights, notes = carried_out(job, rows)
    assert notes == [] and len(calls) == 1, "one graph, for the one shape of training"
    assert not any("_orig_mod" in name for name in weights)
    assert_near(weights, plain, 1e-6)
    steps = [sorted((tmp_path / name / "steps").glob("*")) for name in ("plain", "compiled")]
    assert len(steps[0]) == len(steps[1]) > 2
    assert_near(load_file(steps[1][-1]), load_file(steps[0][-1]), 1e-6)
    logits = [
        Store(tmp_path / name / "predictions").read("logits") for name in ("plain", "compiled")
    ]
    torch.testing.assert_close(*map(torch.from_numpy, logits), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("when", ["forwards", "backwards"])
def test_a_graph_that_fails_is_said_and_the_fit_goes_on_without(rows, tmp_path, backend, when):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(context, value):
            return value.clone()

        @staticmethod
        def backward(context, gradient):
            raise ArithmeticError("no way back")

    def failing(graph, inputs):
        if when == "forwards":
            raise ArithmeticError("no such graph")
        return lambda *args: tuple(Fails.apply(each) for each in graph.forward(*args))

    backend(failing)
    plain, _ = carried_out(small_job(tmp_path / "plain", **RECIPE), rows)
    weights, notes = carried_out(small_job(tmp_path / "tried", compile=True, **RECIPE), rows)
    assert len(notes) == 1 and notes[0].startswith("goes on without compile, which failed (")
    assert ("no such graph" if when == "forwards" else "no way back") in notes[0]
    assert plain.keys() == weights.keys()
    assert all(torch.equal(plain[name], weights[name]) for name in plain)


def test_trying_leaves_the_network_and_the_random_numbers(rows, tmp_path, backend):
    backend("eager")
    job = small_job(tmp_path, **RECIPE)
    write_job(job, rows)
    network = new_network(job, Material(job))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    drawn = torch.get_rng_state()
    made = compiling.compiled(job, network, 4, Processes(), Progress(None))
    assert made is not network and torch.equal(torch.get_rng_state(), drawn)
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_one_job_after_another_is_compiled_whatever_the_compilers_limit(rows, tmp_path, backend):
    calls = []

    def counting(graph, inputs):
        calls.append(len(inputs))
        return graph.forward

    backend(counting)
    job = small_job(tmp_path, **RECIPE)
    write_job(job, rows)
    with torch._dynamo.config.patch(recompile_limit=1):
        for size in (32, 40, 48):
            own = job.model_copy(update={"size": size})
            network = new_network(own, Material(own))
            assert compiling.compiled(own, network, 4, Processes(), Progress(None)) is not network
    assert len(calls) == 3


class FailingPeer(Processes):
    def total(self, values):
        return [values[0] + 1]


def test_where_one_process_fails_none_compiles(rows, tmp_path, backend):
    backend("eager")
    job = small_job(tmp_path, **RECIPE)
    write_job(job, rows)
    network, progress = new_network(job, Material(job)), Progress(tmp_path / "events.jsonl")
    assert compiling.compiled(job, network, 4, FailingPeer(count=2), progress) is network
    assert "failed on 1 of 2 processes" in read_events(progress.path)[0][0]["text"]


def test_compile_and_gradient_checkpointing_exclude_each_other(rows, tmp_path):
    both = {"compile": True, "gradient_checkpointing": True}
    with pytest.raises(ValueError, match="compile and gradient_checkpointing exclude each other"):
        write_job(small_job(tmp_path, **both), rows)
    with pytest.raises(ParameterError, match="compile and gradient_checkpointing exclude"):
        TrainParams(**notebook_defaults("10_train") | both)


@pytest.mark.slow
def test_two_processes_compile_and_end_in_the_same_weights(rows, tmp_path):
    jobs = {
        name: small_job(tmp_path / name, **RECIPE, compile=name == "compiled", micro_batch=micro)
        for name, micro in {"plain": 16, "compiled": 16, "found": 0}.items()
    }
    files = [write_job(job, rows) for job in jobs.values()]
    hardware = Hardware(processes=2, threads=1, device="cpu", timeout_minutes=3)
    launch(files, tmp_path / "launch", hardware, entry="compiled_ranks:run")
    plain, compiled, found = (
        load_file(Path(job.folder) / "weights.safetensors") for job in jobs.values()
    )
    assert_near(compiled, plain, 1e-6)
    # The largest that fits is the whole share of each process.
    assert_near(found, plain, 0)
    events = read_events(tmp_path / "launch" / "events.jsonl")[0]
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert notes == ["takes 16 images at once"]


@pytest.mark.slow
def test_inductor_takes_the_same_steps(rows, tmp_path, backend):
    backend("inductor")
    recipe = RECIPE | {"dropout": 0.0}
    plain, _ = carried_out(small_job(tmp_path / "plain", **recipe), rows)
    weights, notes = carried_out(small_job(tmp_path / "compiled", compile=True, **recipe), rows)
    assert notes == []
    assert_near(weights, plain, 1e-3)
