"""One model as an ONNX file with its classes and its preparation, checked against the network."""

import json
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fgvc_utils.contest import tables
from fgvc_utils.contest.parameters import ParameterError
from fgvc_utils.core.files import whole_file
from fgvc_utils.jobs.predictions import Store
from fgvc_utils.jobs.records import Job, read_job
from fgvc_utils.jobs.rows import write_rows
from fgvc_utils.sharing import onnx_reader
from fgvc_utils.sharing.predicting import answer_of, cache_side
from fgvc_utils.sharing.runs import FinishedRun
from fgvc_utils.sharing.tasks import Asked, Task, head_of
from fgvc_utils.training.material import Material
from fgvc_utils.training.models import trained_models
from fgvc_utils.training.networks import MASKED, PictureNetwork, new_network
from fgvc_utils.training.probes import is_probe
from fgvc_utils.training.resizing import resizing_of

OPSET = 18
# Pictures that the file and the network are shown, and how far their probabilities may differ.
CHECKED = 16
MOST_APART = 1e-3
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


class WholeModel(nn.Module):
    """A model from pictures to the probabilities of its classes: normalised, answered, masked.

    Parameters
    ----------
    answer : nn.Module
        From uint8 (batch, 3, size, size) to logits (batch, classes).
    job : Job
        The model's.
    classifier : nn.Module
        The last layer, whose bias is the frozen log prior where the job has one.
    counts : ndarray of int (classes,)
        Train images of each class.
    """

    def __init__(self, answer: nn.Module, job: Job, classifier: nn.Module, counts: np.ndarray):
        super().__init__()
        self.answer = answer
        prior = torch.zeros(len(job.classes))
        if job.balance == "prior" and not job.keep_prior:
            prior = classifier.bias.detach().clone()
        self.register_buffer("prior", prior)
        unseen = (counts == 0) & (job.teacher_weight < 1) & (not job.keep_empty)
        self.register_buffer("unseen", torch.from_numpy(unseen))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return probabilities, float32 (batch, classes), of uint8 (batch, 3, size, size)."""
        logits = self.answer(pictures) - self.prior
        return logits.masked_fill(self.unseen, MASKED).softmax(dim=1)


class WholeProbe(nn.Module):
    """The networks whose features a probe joins, and the probe; its views' logits are averaged."""

    def __init__(self, networks: list[PictureNetwork], head: nn.Module, mirrored: list[bool]):
        super().__init__()
        self.networks, self.head, self.mirrored = nn.ModuleList(networks), head, mirrored

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes)."""
        views = [pictures.flip(3) if each else pictures for each in self.mirrored]
        logits = [
            self.head(torch.cat([net.features_and_logits(view)[0] for net in self.networks], 1))
            for view in views
        ]
        return torch.stack(logits).mean(dim=0)


def export_network(run: FinishedRun, model: str = "", to: Path | None = None) -> Path:
    """Write a model as ONNX, and beside it a script that answers photos by it without the kit.

    The file takes pictures as bytes, uint8 (batch, 3, size, size) of any batch, and gives
    probabilities. Its metadata have classes, sizes and the way a photo is prepared; see
    `onnx_reader`.

    Parameters
    ----------
    run : FinishedRun
        The run.
    model : str
        The model's name; empty where the run has one alone. Its refit is taken where it is done.
    to : Path, optional
        The folder; by default `export/onnx` in the run's.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ParameterError
        The model must be named, or its networks see pictures of several sizes.
    FileNotFoundError
        There is no such model, or it keeps no weights.
    ImportError
        A package of the extra `export` is missing.
    RuntimeError
        The file does not answer as the network does; it is not kept.
    """
    _require_packages()
    names = [folder.name for folder in trained_models(run.cfg)]
    if not model and len(names) > 1:
        raise ParameterError(f"name the model, by --model: one of {', '.join(names)}")
    answer = answer_of(run, model or names[0])
    [(name, folder)] = answer.members.items()
    whole, seen = whole_model(folder)
    image_ids, pictures = _prepared(run, seen)
    file = (Path(to) if to else run.folder / "export" / "onnx") / f"{name}.onnx"
    metadata = described(run, name, seen, read_job(folder / "job.json").classes)
    with whole_file(file) as temporary:
        _write(whole, pictures[:2], metadata, temporary)
        apart = _apart(whole, pictures, temporary)
        if apart > MOST_APART:
            raise RuntimeError(
                f"the ONNX file of {name} answers {apart:.2g} off the network on {len(pictures)} "
                "pictures, so it was not kept; another version of torch or onnxruntime may do"
            )
    script = file.with_name("predict_onnx.py")
    with whole_file(script) as temporary:
        temporary.write_text(Path(onnx_reader.__file__).read_text("utf-8"), "utf-8")
    print(
        f"{file}: {name}, {file.stat().st_size / 1e6:.1f} MB, at most {apart:.1g} off the network "
        f"on {len(pictures)} pictures; {_as_in_the_run(whole, folder, image_ids, pictures)}; "
        f"python {script} {file} PHOTOS"
    )
    return file


def _require_packages() -> None:
    import importlib.util

    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"the format onnx needs {', '.join(missing)}: install the kit with its extra, "
            "fgvc-kit[export]"
        )


def whole_model(folder: Path) -> tuple[WholeModel, Job]:
    """Return a trained model as one module, and the job by which it sees pictures.

    Parameters
    ----------
    folder : Path
        Of the model's job.

    Raises
    ------
    ParameterError
        A probe's networks see pictures of several sizes.
    """
    asked = Asked({folder: {"logits"}})
    own = asked.tasks[folder.resolve()]
    if not is_probe(own.job):
        network = _network(own)
        return WholeModel(network, own.job, network.get_classifier(), own.counts).eval(), own.job
    sources = [asked.tasks[read.resolve()] for read in own.reads]
    ways = {_way(source.job) for source in sources}
    if len(ways) > 1 or any(is_probe(source.job) for source in sources):
        raise ParameterError(
            f"{folder.name} reads networks that see pictures of several sizes, {sorted(ways)}; one "
            "file takes one picture: export a network, or a probe of networks of one size"
        )
    networks = [_network(source) for source in sources]
    widths = [network.body.num_features for network in networks]
    head = head_of(own.folder, own.job, widths)
    mirrored = [view == "mirror" for view in own.job.test_views]
    whole = WholeProbe(networks, head, mirrored)
    return WholeModel(whole, own.job, head.get_classifier(), own.counts).eval(), sources[0].job


def _network(task: Task) -> PictureNetwork:
    """The trained or frozen network of a job, on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        job = task.asked(Path(folder), [], "centre")
        # A network of pictures asks nothing of its rows but for a balance that it has learnt.
        network = new_network(job, None)
    return network.eval()


def _way(job: Job) -> tuple[int, float, str, bool]:
    return (job.size, job.test_ratio, *resizing_of(job.backbone))


def _prepared(run: FinishedRun, job: Job) -> tuple[list[str], torch.Tensor]:
    """Some of the run's images as the job sees them at test: ids, and uint8 (images, 3, …)."""
    table, inventory = run.table, run.inventory
    there = inventory["file"].reindex(table.index).fillna("") != ""
    chosen = table.index[there & ((table["split"] == "test") | tables.kept(table))]
    some = inventory.loc[chosen[:: max(1, len(chosen) // CHECKED)][:CHECKED]]
    rows = some[["image_id", "file"]].assign(
        target="", label="", fit=False, validate=False, predict=True
    )
    with tempfile.TemporaryDirectory() as folder:
        # Nothing is read of what the job has learnt.
        bare = {"stores": [], "teachers": [], "trained": "", "fit": "none", "decoded": ""}
        seeing = job.elsewhere(Path(folder), job.name, **bare)
        write_rows(rows, Path(seeing.rows))
        shown = Material(seeing).test_pictures()
        pictures, _ = shown.__getitems__([(0, row) for row in range(len(rows))])
        return rows["image_id"].tolist(), pictures.contiguous()


def _as_in_the_run(
    whole: nn.Module, folder: Path, image_ids: list[str], pictures: torch.Tensor
) -> str:
    """In words how many of the pictures have the class that the run stored of them."""
    store = Store(folder / "predictions")
    known = [row for row, image in enumerate(image_ids) if image in store.image_ids]
    if not known:
        return "the run has stored none of them"
    stored = store.probabilities([image_ids[row] for row in known]).argmax(axis=1)
    with torch.no_grad():
        now = whole(pictures[known]).numpy().argmax(axis=1)
    return f"{int((stored == now).sum())} of {len(known)} classes are those that the run stored"


def described(run: FinishedRun, name: str, job: Job, classes: list[str]) -> dict[str, str]:
    """Return what the file says of itself, texts by name; numbers and lists are JSON."""
    resizing = resizing_of(job.backbone)
    return {
        "classes": json.dumps(classes, ensure_ascii=False),
        "size": str(job.size),
        "resize_to": str(job.test_side),
        "squash": json.dumps(resizing.squash),
        "interpolation": resizing.interpolation,
        "first_shrink_to": str(cache_side(run)),
        "input": "uint8 RGB (batch, 3, size, size), 0 to 255; normalised inside",
        "output": "probabilities, float32 (batch, classes)",
        "network": job.backbone,
        "model": name,
        "run": run.cfg.run,
    }


def _write(whole: nn.Module, pictures: torch.Tensor, metadata: dict[str, str], file: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=2**16)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # It tells of each step.
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            whole,
            (pictures,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pictures"],
            output_names=["probabilities"],
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
        program.model.metadata_props.update(metadata)
        program.save(file, external_data=False)


def _apart(whole: nn.Module, pictures: torch.Tensor, file: Path) -> float:
    """How far the file's probabilities are from the network's at most, over two sizes of batch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    furthest = 0.0
    for some in (pictures, pictures[:1]):
        with torch.no_grad():
            own = whole(some).numpy()
        [given] = session.run(None, {"pictures": some.numpy()})
        furthest = max(furthest, float(np.abs(own - given).max()))
    return furthest
