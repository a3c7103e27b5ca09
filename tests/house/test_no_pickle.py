"""No file that may come from elsewhere is unpickled: unpickling runs what the file says."""

import ast
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_jobs import draw_pictures, small_job

from fgvc_utils.contest.journal import Journal
from fgvc_utils.contest.places import PROJECT
from fgvc_utils.core.files import read_json, write_json
from fgvc_utils.hardware.distributed import Processes
from fgvc_utils.hardware.progress import Progress
from fgvc_utils.jobs.predictions import ShardWriter, Store, finish_store
from fgvc_utils.jobs.running import write_job
from fgvc_utils.training.backbones import create_network
from fgvc_utils.training.fitting import LAST, fit
from fgvc_utils.training.material import Material
from fgvc_utils.training.networks import new_network
from fgvc_utils.training.starting import load_model

SOURCES = [
    path
    for folder in ("fgvc_utils", "benchmarks", "docs", "notebooks")
    for path in sorted((PROJECT / folder).glob("*.*"))
    if path.suffix in (".py", ".ipynb")
]
# Modules that do nothing but unpickle, or run bytes as code.
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# What reads plain data only, whatever lies in the file.
PLAIN = {"json.load", "json.loads", "tomllib.load", "tomllib.loads", "yaml.safe_load"}
# By the last part of their names: what may unpickle.
MAY_UNPICKLE = {
    "load", "loads", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all",
    "load_learner", "load_model", "load_state_dict_from_url", "read_pickle", "memory_load",
    "Unpickler",
}  # fmt: skip


def code_of(path: Path) -> str:
    """The Python of a module, or of a notebook's code cells."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def may_unpickle(source: str) -> list[str]:
    """What a piece of Python does that may unpickle a file, each with its line."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    safe_loaders = {"SafeLoader", "CSafeLoader"}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
            modules = [node.module]
        else:
            modules = []
            if isinstance(node, ast.ClassDef):
                bases = {_dotted(base).split(".")[-1] for base in node.bases}
                safe_loaders |= {node.name} if bases & safe_loaders else set()
        bad = {module.split(".")[0] for module in modules} & UNPICKLERS
        found += [f"line {node.lineno}: imports {name}" for name in sorted(bad)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _dotted(node.func)
            first, _, rest = name.partition(".")
            whole = ".".join(filter(None, [names.get(first) or first, rest]))
            allowed = _says(node, "allow_pickle") in (None, False)
            if not (allowed and _is_safe(whole, node, safe_loaders)):
                found.append(f"line {node.lineno}: {name}")
    return found


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of names and attributes; what is no name is a `?`."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _says(call: ast.Call, keyword: str) -> object:
    """The constant that a call gives a keyword: None without it, `...` for what is no constant."""
    for given in call.keywords:
        if given.arg == keyword:
            return given.value.value if isinstance(given.value, ast.Constant) else ...
    return None


def _is_safe(name: str, call: ast.Call, safe_loaders: set[str]) -> bool:
    if name.split(".")[-1] not in MAY_UNPICKLE or name in PLAIN:
        return True
    if not (call.args or call.keywords):
        # A file must be named: `image.load()` of Pillow reads what is open already.
        return True
    if name == "torch.load":
        return _says(call, "weights_only") is True
    if name == "numpy.load":
        return _says(call, "allow_pickle") is False
    if name in ("yaml.load", "yaml.load_all"):
        loaders = [*call.args[1:], *(k.value for k in call.keywords if k.arg == "Loader")]
        return [_dotted(one).split(".")[-1] in safe_loaders for one in loaders] == [True]
    return False


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_in_the_code_may_unpickle_a_file(path):
    assert may_unpickle(code_of(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "import torch as t\nt.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "import torch\ntorch.load(p, weights_only=safe)",
        "from torch import load as take\ntake(p)",
        "import torch\ntorch.jit.load(p)",
        "import numpy as np\nnp.load(p)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import numpy as np\nnp.lib.format.read_array(f, allow_pickle=x)",
        "import pandas as pd\npd.read_pickle(p)",
        "import yaml\nyaml.load(f)",
        "import yaml\nyaml.load(f, yaml.UnsafeLoader)",
        "import yaml\nyaml.load(f, Loader=yaml.FullLoader)",
        "import yaml\nyaml.unsafe_load(f)",
        "from fastai.learner import load_learner\nload_learner(p)",
        "learner.load(p)",
        "from pickle import Unpickler",
    ],
)
def test_what_may_unpickle_is_found(source):
    assert len(may_unpickle(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import json, tomllib\njson.load(f); json.loads(t); tomllib.load(f)",
        "import torch\ntorch.load(p, weights_only=True)",
        "import numpy as n\nn.load(p, allow_pickle=False)",
        "import yaml\nclass Own(yaml.SafeLoader): pass\nyaml.load(f, Own); yaml.safe_load(f)",
        "network.load_state_dict(state)",
    ],
)
def test_what_reads_plain_data_is_allowed(source):
    assert may_unpickle(source) == []


class Bomb:
    """Loaded without care, it makes the file that it names."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.fixture
def marker(tmp_path):
    """The file that a bomb makes; no test that has it may leave it there."""
    path = tmp_path / "it-went-off"
    pickle.loads(pickle.dumps(Bomb(path)))
    assert path.exists(), "the bomb must work where it is loaded without care"
    path.unlink()
    yield path
    assert not path.exists()


def plant(marker: Path, path: Path) -> Path:
    """Put a bomb where a file is expected; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"weight": Bomb(marker)}, protocol=2))
    return path


@pytest.mark.parametrize("form", ["pickle", "torch", "old torch", "safetensors"])
def test_weights_that_would_run_code_are_refused(tmp_path, marker, form):
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    plant(marker, path)
    if "torch" in form:
        new = form == "torch"
        torch.save({"weight": Bomb(marker)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(ValueError, match=f"{path.name} was not loaded: .*safetensors"):
        create_network("test_efficientnet", str(path), 3)


def test_weights_that_are_no_dict_are_named(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights.pth holds a Tensor, not named tensors"):
        create_network("test_efficientnet", str(tmp_path / "weights.pth"), 3)


def small_fit(tmp_path):
    """A small job with its material and its network."""
    rows = draw_pictures(tmp_path / "pictures", 40)
    job = small_job(tmp_path / "job")
    write_job(job, rows)
    material = Material(job)
    return job, material, new_network(job, material)


def test_a_resume_file_that_would_run_code_is_left_out(tmp_path, marker):
    job, material, network = small_fit(tmp_path)
    torch.save({"digest": material.digest, "network": Bomb(marker)}, Path(job.folder) / LAST)
    events = tmp_path / "events.jsonl"
    fit(job, material, network, Processes(), Progress(events))
    assert f"{LAST} was not loaded: it is damaged, or would run code" in events.read_text()


def test_a_models_weights_that_would_run_code_are_refused(tmp_path, marker):
    job, _, network = small_fit(tmp_path)
    path = plant(marker, tmp_path / "model" / "weights.safetensors")
    with pytest.raises(ValueError, match="weights.safetensors"):
        load_model(network, path, job)


@pytest.mark.parametrize("form", ["pickle", "array of objects"])
def test_a_store_that_would_run_code_is_refused(tmp_path, marker, form):
    writer = ShardWriter(tmp_path / "predictions", 0, ["a"])
    writer.write("logits", 0, np.zeros((1, 2), np.float32))
    writer.close()
    finish_store(tmp_path / "predictions", ["x", "y"], 1)
    path = tmp_path / "predictions" / "shard-00000" / "logits.npy"
    if form == "pickle":
        plant(marker, path)
    else:
        np.save(path, np.array([Bomb(marker)], object), allow_pickle=True)
    with pytest.raises(ValueError, match="logits.npy is gone or has not the size"):
        Store(tmp_path / "predictions")
    # Whoever puts it there may write its size into the index too.
    index = tmp_path / "predictions" / "index.json"
    told = read_json(index)
    told["files"]["shard-00000/logits.npy"]["bytes"] = path.stat().st_size
    write_json(told, index)
    with pytest.raises(ValueError, match="logits.npy cannot be read as predictions"):
        Store(tmp_path / "predictions").read("logits")


def test_a_table_that_would_run_code_is_refused(tmp_path, marker):
    with pytest.raises(ValueError, match="Parquet"):
        pd.read_parquet(plant(marker, tmp_path / "01_noise.parquet"))


def test_a_journal_that_would_run_code_is_refused(tmp_path, marker):
    journal = Journal(plant(marker, tmp_path / "02_coarse.csv"))
    for act in (journal.read, journal.latest, lambda: journal.append("a", "keep")):
        with pytest.raises(ValueError, match="02_coarse.csv is not a journal"):
            act()
