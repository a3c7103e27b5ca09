"""All that is to be measured on a GPU, in about eight minutes on one H100.

`python benchmarks/on_gpu.py [--device cuda] [--data FOLDER] [--parts step-32 feed ...] [--small]`
carries out these parts, each in a process of its own and with a time limit; a part that fails or
takes too long is named and does not end the others:

- step-32, step-128: `train_step.py` on tf_efficientnet_b4 at 380 px in bfloat16, as a share of a
  bare PyTorch loop. autotune-128: the same where cuDNN tries all its ways, and what that costs.
  compile-128: with torch.compile. (compile-32 and autotune-32 are there too, if asked for.)
- feed: the same network fitted on drawn photos by the default recipe, from JPEGs and from decoded
  pictures, random changes made by the workers, and by the device: images a second and `waiting`,
  the share of time in which training waited for pictures; and the same of predictions.
- ranks: seconds from a launch until a rank begins with it, the first and once warm, and to the
  first step; beside it the same where nothing stays warm.
- contest: grocery-web from raw files to a submission, its networks at 224 px; `--data` names the
  folder of its images.

`--small` takes tiny networks and few pictures: with `--device cpu` a trial of the script itself.
Needs no network. Prints a table; the last line is JSON, a dict a part.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
# Seconds that a part may take at most.
LIMITS = {
    "step-32": 90,
    "step-128": 90,
    "autotune-128": 150,
    "compile-128": 240,
    "feed": 200,
    "ranks": 90,
    "contest": 330,
    "autotune-32": 150,
    "compile-32": 240,
}
DEFAULT = list(LIMITS)[:7]
# Photos that are drawn for the feed; further ones have their content.
DISTINCT = 256


# --- parts in processes of their own -----------------------------------------------------------


def in_time(command: Sequence[str], seconds: float) -> tuple[dict[str, Any], float]:
    """Run a command of which the last line is JSON.

    Parameters
    ----------
    command
        What is run, in the project's folder.
    seconds
        After so many it is ended, with all processes that it has started.

    Returns
    -------
    dict
        What it printed last, or `failed`: why there is nothing.
    float
        Seconds that it took.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as printed:
        started = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = started.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        # What a part has started ends with it, whichever way it ended.
        with_group(started.pid, signal.SIGKILL)
        started.wait()
        printed.seek(0)
        lines = [line for line in printed.read().splitlines() if line.strip()]
    took = time.monotonic() - began
    said = "\n".join(lines[-5:])
    if code is None:
        return {"failed": f"took more than {seconds:.0f} s; last: {said}"}, took
    if code:
        return {"failed": f"ended with {code}: {said}"}, took
    try:
        return json.loads(lines[-1]), took
    except (IndexError, ValueError):
        return {"failed": f"printed no JSON line; last: {said}"}, took


def with_group(process: int, number: int) -> None:
    """Send a signal to a process and all of its group that are left."""
    try:
        os.killpg(process, number)
    except ProcessLookupError:
        pass


def command_of(part: str, options: argparse.Namespace) -> list[str]:
    """The command that carries a part out."""
    kind, _, batch = part.partition("-")
    if not batch:
        own = [sys.executable, __file__, "--only", part, "--device", options.device]
        own += ["--data", str(options.data)] if options.data else []
        return own + (["--small"] if options.small else [])
    network = ["--backbone", "tf_efficientnet_b4", "--size", "380", "--batch", batch]
    network += ["--precision", "bfloat16", "--steps", "8", "--blocks", "8"]
    if options.small:
        network = ["--backbone", "test_efficientnet", "--size", "48", "--batch", "8"]
        network += ["--precision", "float32", "--steps", "1", "--blocks", "6"]
    script = str(PROJECT / "benchmarks" / "train_step.py")
    switch = [] if kind == "step" else [f"--{kind}"]
    return [sys.executable, script, "--device", options.device, "--seeds", "0", *network, *switch]


def in_words(part: str, found: dict[str, Any], took: float) -> str:
    """The lines of a part in the table."""
    if "failed" in found:
        return f"{part:<14}{took:>6.0f} s  FAILED: {found['failed']}"
    if "share_of_bare" in found:
        low, high = found["interval"]
        told = (
            f"{found['ours']:.0f} images/s, bare {found['bare']:.0f}: {found['share_of_bare']:.3f}"
        )
        return f"{part:<14}{took:>6.0f} s  {told} of bare ({low:.3f} to {high:.3f})"
    rows = [f"{name}: {_told(value)}" for name, value in found.items()]
    return f"{part:<14}{took:>6.0f} s  " + f"\n{'':<24}".join(rows)


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# --- what the parts do -------------------------------------------------------------------------


def feed(options: argparse.Namespace) -> dict[str, Any]:
    """Fit on drawn photos: from JPEGs and decoded, changed by the workers and by the device."""
    import pandas as pd
    import torch

    from fgvc_utils.contest.decoded import decode_once
    from fgvc_utils.contest.presets import preset_values
    from fgvc_utils.core.files import read_json
    from fgvc_utils.core.processes import processors
    from fgvc_utils.hardware.distributed import Processes, workers_of
    from fgvc_utils.hardware.progress import Progress
    from fgvc_utils.jobs.records import Job
    from fgvc_utils.jobs.running import write_job
    from fgvc_utils.training.changes import CHANGES, parameter_types
    from fgvc_utils.training.worker import carry_out

    # Workers are some dozen batches ahead, so an epoch is to have more than these.
    images, size, batch, backbone = 6144, 380, 128, "tf_efficientnet_b4"
    if options.small:
        images, size, batch, backbone = 96, 48, 16, "test_efficientnet"
    original = preset_values("original", {*parameter_types(), "mix", "mix_probability"})
    names = [name for change in CHANGES if original[change.switch] for name in change.types]
    device = torch.device(options.device)
    processes = Processes(device=device, workers=workers_of(device.type, -1))
    classes = [f"class {number:02d}" for number in range(50)]
    found: dict[str, Any] = {"cores": processors(), "workers": processes.workers}
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(temporary) / "cache"
        files = drawn_photos(cache / "pictures", images, round(size * 1.35))
        rows = pd.DataFrame({"image_id": [file.stem for file in files], "label": ""})
        rows["file"] = [str(file) for file in files]
        rows["target"] = [classes[number % len(classes)] for number in range(images)]
        rows = rows.assign(fit=True, validate=False, predict=True)
        decode_once(rows["file"].tolist(), cache, round(size * 1.15), processes=processors())
        for source, makes in (("jpegs", "workers"), ("jpegs", "device"), ("decoded", "workers")):
            folder = Path(temporary) / f"{source}-{makes}"
            job = Job(
                name=folder.name,
                folder=str(folder),
                rows=str(folder / "rows.parquet"),
                classes=classes,
                fit="full",
                backbone=backbone,
                size=size,
                precision="auto",
                changes_on=makes,
                decoded=str(cache) if source == "decoded" else "",
                augmentation={name: original[name] for name in names},
                mix=original["mix"],
                mix_probability=original["mix_probability"],
                # Workers start and memory is taken in the first one.
                epochs=2,
                label_smoothing=0.2,
                global_batch=batch,
                micro_batch=batch,
                # Predictions read JPEGs, whoever changes the pictures of training.
                keep=["logits", "features"] if not found.get("predicting") else [],
                keep_weights=False,
            )
            write_job(job, rows)
            carry_out(job, processes, Progress(None))
            last = pd.read_csv(folder / "log.csv").iloc[-1]
            found[f"{source}, changes by {makes}"] = _speed(last)
            if job.keep:
                predicting = read_json(folder / "done.json")["predicting"]
                found["predicting"] = _speed(predicting)
    return found


def _speed(figures: Any) -> dict[str, float]:
    return {name: round(float(figures[name]), 4) for name in ("images_per_second", "waiting")}


def drawn_photos(folder: Path, count: int, side: int) -> list[Path]:
    """JPEGs as heavy as photos, shorter side `side` px: soft shapes under the noise of a sensor."""
    import numpy as np
    import simplejpeg
    from PIL import Image

    folder.mkdir(parents=True)
    random, files, shape = np.random.default_rng(0), [], (side, side * 4 // 3, 3)
    noise = random.normal(0, 6, (8, *shape)).astype(np.float32)
    jpegs = []
    for number in range(min(count, DISTINCT)):
        soft = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        shapes = Image.fromarray(soft).resize((shape[1], side), Image.Resampling.BICUBIC)
        pixels = np.clip(np.asarray(shapes) + noise[number % len(noise)], 0, 255).astype(np.uint8)
        jpegs.append(simplejpeg.encode_jpeg(pixels, quality=95, colorsubsampling="444"))
    for number in range(count):
        files.append(folder / f"{number:05d}.jpg")
        files[-1].write_bytes(jpegs[number % len(jpegs)])
    return files


def ranks(options: argparse.Namespace) -> dict[str, Any]:
    """Launch tiny jobs on one rank: the first, further ones while it is warm, and afresh."""
    import numpy as np
    import pandas as pd

    from fgvc_utils.hardware.launch import end, launch
    from fgvc_utils.hardware.plan import Hardware
    from fgvc_utils.jobs.predictions import ShardWriter, finish_store
    from fgvc_utils.jobs.records import Job
    from fgvc_utils.jobs.running import write_job

    ids, classes = [f"{number:03d}" for number in range(256)], ["one", "two"]
    rows = pd.DataFrame({"image_id": ids, "file": "", "label": ""})
    rows["target"] = [classes[number % 2] for number in range(len(ids))]
    rows = rows.assign(fit=True, validate=False, predict=True)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        store = Path(temporary) / "network" / "predictions"
        writer = ShardWriter(store, 0, ids)
        values = np.random.default_rng(0).normal(size=(len(ids), 64)).astype(np.float16)
        writer.write("features", 0, values)
        writer.close()
        finish_store(store, [], 1)

        def taken(name: str, count: int, warm: bool) -> list[dict[str, float]]:
            """Seconds of so many launches of one job each."""
            hardware = Hardware(device=options.device, warm=warm)
            for number in range(count):
                folder = Path(temporary) / f"{name}-{number}"
                job = Job(
                    name=folder.name,
                    folder=str(folder),
                    rows=str(folder / "rows.parquet"),
                    classes=classes,
                    fit="head",
                    optimiser="adamw",
                    epochs=2,
                    stores=[str(store)],
                )
                launch([write_job(job, rows)], Path(temporary) / name, hardware)
            lines = (Path(temporary) / name / "times.jsonl").read_text("utf-8").splitlines()
            times = [json.loads(line) for line in lines]
            return [
                {
                    "begins": each["taken"] - each["began"],
                    "step": each["first_step"] - each["began"],
                }
                for each in times
            ]

        try:
            warm = taken("warm", 4 if options.small else 12, True)
        finally:
            end()
        fresh = taken("fresh", 1 if options.small else 3, False)
    for name, times in {"first": warm[:1], "warm": warm[1:], "afresh": fresh}.items():
        medians = {
            key: round(statistics.median(each[key] for each in times), 3) for key in times[0]
        }
        found[name] = medians | {"n": len(times)}
    return found


def contest(options: argparse.Namespace) -> dict[str, Any]:
    """Run grocery-web from its raw files to a submission."""
    import yaml

    from fgvc_utils.contest.contest_file import read_yaml

    if not options.data:
        raise ValueError("--data names no folder: where do the images of grocery-web lie?")
    given = read_yaml(PROJECT / "params" / "grocery-web.yaml")
    size, epochs = (64, 1) if options.small else (224, None)
    for stage in ("10_train", "20_distill"):
        models = given[stage] if isinstance(given[stage], list) else [given[stage]]
        for model in models:
            model["size"] = size
            if epochs:
                model["epochs"] = epochs
    given |= {"data_root": str(Path(options.data).absolute()), "device": options.device}
    # As large as the largest view at test needs them.
    given["cache_side"] = max(round(size * 1.35), 128 if options.small else 303)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "contest.yaml"
        given["outputs"] = temporary
        file.write_text(yaml.safe_dump(given, sort_keys=False), "utf-8")
        began = time.monotonic()
        command = [sys.executable, "-m", "fgvc_utils.pipeline", str(file)]
        printed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        run = Path(temporary) / given["run"]
        if printed.returncode:
            raise RuntimeError(f"the run failed: {(printed.stdout + printed.stderr)[-1500:]}")
        submission = run / "submission.csv"
        found = {"seconds": round(seconds, 1), "lines": len(submission.read_text().splitlines())}
        return found | {"stages": _stages(run), "top1": _score(run, Path(options.data))}


def _stages(run: Path) -> dict[str, float]:
    """Seconds that the jobs of each stage took, of the launches that a run has noted."""
    found: dict[str, float] = {}
    for file in sorted((run / "launches").glob("*/times.jsonl")):
        launches = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        found[file.parent.name] = round(sum(each["jobs_seconds"] for each in launches), 1)
    return found


def _score(run: Path, data: Path) -> float | None:
    """The submission's top-1 against the truth of the data set, where that is there."""
    truth = data / "truth"
    if not truth.is_dir():
        return None
    script = str(PROJECT / "benchmarks" / "score_run.py")
    told, _ = in_time([sys.executable, script, str(run), str(truth)], 60)
    return told.get("top1", told.get("failed"))


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "feed": feed,
    "ranks": ranks,
    "contest": contest,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--data", type=Path, help="folder of grocery-web's images")
    parser.add_argument("--parts", nargs="+", choices=list(LIMITS), default=DEFAULT)
    parser.add_argument("--small", action="store_true", help="a trial of the script itself")
    parser.add_argument("--only", choices=list(PARTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.only:
        print(json.dumps(PARTS[options.only](options)))
        return
    began, found = time.monotonic(), {}
    # On a CPU it is a trial, which may take its time.
    slower = 1 if options.device == "cuda" else 5
    for part in options.parts:
        found[part], took = in_time(command_of(part, options), slower * LIMITS[part])
        print(in_words(part, found[part], took), flush=True)
        found[part]["took"] = round(took, 1)
    failed = [part for part in found if re.search("failed", " ".join(found[part]))]
    seconds = time.monotonic() - began
    print(f"{seconds:.0f} s in all; {f'failed: {failed}' if failed else 'no part failed'}")
    print(json.dumps({"device": options.device, "seconds": round(seconds, 1)} | found))


if __name__ == "__main__":
    main()
