"""When a job is done: what its result depends on, and what it left.

Counts in no digest.
"""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fgvc_utils.contest.places import network_folder, weights_file
from fgvc_utils.core.files import file_digest, write_json
from fgvc_utils.core.naming import first_few
from fgvc_utils.core.reading import read_note, read_parquet
from fgvc_utils.jobs.predictions import INDEX, is_whole
from fgvc_utils.jobs.records import (
    DONE,
    LISTS_OF_PLACES,
    PLACES,
    PREDICTIONS,
    RATES,
    TUNED,
    WEIGHTS,
    Job,
    read_job,
)
from fgvc_utils.jobs.rows import columns_of, in_cache
from fgvc_utils.jobs.sources import Definition, changed, reached

# Decoded pictures are the same to a grey level wherever they are read.
NO_PART = {*PLACES, *LISTS_OF_PLACES, "weights"}
# Fields that are compared by the digest alone; a list of classes may be long.
NOT_COMPARED = NO_PART | {"classes"}


def job_digest(job: Job) -> str:
    """A digest of all that a job's result depends on beside the code.

    That is its record, its rows, the stores and the weights that it reads. Fields that have their
    default are left out of the record, those of nested records too: a default is neutral by
    contract, so a field that is new makes no finished job stale.
    """
    digest = hashlib.sha256(job.model_dump_json(exclude=NO_PART, exclude_defaults=True).encode())
    weights = weights_file(job.weights)
    digest.update((file_digest(weights) if weights else job.weights).encode())
    folder = network_folder(job.backbone)
    for file in sorted(folder.glob("*.*")) if folder else ():
        digest.update(file_digest(file).encode() if file.is_file() else b"")
    stat = os.stat(job.rows)
    digest.update(_rows_digest(job.rows, stat.st_mtime_ns, stat.st_ino, stat.st_size).encode())
    single = (job.trained, job.start_weights, job.probe, job.soft_labels)
    for read in [*job.stores, *job.teachers, *(file for file in single if file)]:
        digest.update(result_of(Path(read).parent).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=64)
def _rows_digest(path: str, *file: int) -> str:
    """A digest of the content of rows, wherever their pictures lie and whoever wrote the file.

    `file` tells a file from the one that was there before.

    Of a picture's path its name in the cache counts.
    """
    rows = read_parquet(Path(path), "run its notebook again")
    digest = hashlib.sha256()
    for column in columns_of(rows):
        values = rows[column]
        if column == "file":
            values = values.map(in_cache)
        counted = values.dtype.kind in "bi"
        text = values.to_numpy().tobytes() if counted else "\n".join(values).encode()
        digest.update(f"{column} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def job_code(job: Job) -> dict[str, str]:
    """Digests of the package's code that a job runs, by name; see `sources`.

    It is all that `carry_out` reaches but for the work that the job does not ask for.
    """
    work = {
        Definition("training.fitting", "fit"): job.fit != "none",
        Definition("training.renewing", "renewed"): job.renew_statistics,
        Definition("training.renewing", "renew_statistics"): (
            job.renew_statistics or job.swa_epochs > 1
        ),
        Definition("training.predicting", "predict"): bool(job.keep) and not job.crossed,
        Definition("training.crossed", "cross"): job.crossed,
        Definition("training.predicting", "_several_crops"): job.several_crops,
    }
    idle = [definition for definition, runs in work.items() if not runs]
    return reached([Definition("training.worker", "carry_out")], without=idle)


def changed_fields(before: Mapping[str, Any], record: BaseModel) -> list[str]:
    """Names of the fields that make a record another one than it was.

    Those of a nested record are named `outer.inner`. A field that the earlier record does not know
    counts where its value is not the default. Where both know it, the values are compared, so that
    a default that was changed since makes no job pass for done.

    Parameters
    ----------
    before
        What `fields_of` gave of the earlier record.
    record
        The present one.
    """
    return [
        name
        for name, (value, neutral) in _fields(record).items()
        if (value != before[name] if name in before else not neutral)
    ]


def fields_of(record: BaseModel) -> dict[str, Any]:
    """The values of a record's fields as plain data, those of nested records as `outer.inner`."""
    return {name: value for name, (value, _) in _fields(record).items()}


def _fields(record: BaseModel) -> dict[str, tuple[Any, bool]]:
    """Each field's value as plain data, and whether it is the default."""
    found = {}
    plain = record.model_dump(mode="json")
    for name, field in type(record).model_fields.items():
        value = getattr(record, name)
        if isinstance(value, BaseModel):
            found |= {f"{name}.{inner}": each for inner, each in _fields(value).items()}
        else:
            neutral = value == field.get_default(call_default_factory=True)
            found[name] = (plain[name], neutral)
    return found


def why_not_done(job: Job) -> str:
    """Why a job has to be carried out, or an empty text where it is done."""
    file = Path(job.folder) / DONE
    if not file.is_file():
        return "not done yet"
    done, wrong = _read_done(file)
    if wrong:
        return wrong
    fields = changed_fields(done.get("job", {}), job)
    if fields := [name for name in fields if name not in NOT_COMPARED]:
        return f"changed: {first_few(fields)}"
    if done["digest"] != job_digest(job):
        return "its parameters, its rows or what it reads changed"
    if code := changed(done.get("code", {}), job_code(job)):
        return f"changed code: {first_few(code)}"
    if cut := _cut(Path(job.folder), done):
        return f"{cut} is gone or was cut"
    return "its predictions are gone" if job.keep and not is_whole(job.store) else ""


def _read_done(file: Path) -> tuple[dict[str, Any], str]:
    """What a job noted when it was done, and what is wrong with that, in words, or empty."""
    done, wrong = read_note(file, ("digest",), ("job", "code", "left"))
    return done, wrong and f"its {file.name} {wrong}"


def _cut(folder: Path, done: dict) -> str:
    """What of the things that a job left is not there as it was left, or empty."""
    left = done.get("left", {})
    if not isinstance(left, dict):
        return DONE
    for name, written in left.items():
        path = folder / name
        size = written.get("bytes") if isinstance(written, dict) else None
        if not path.is_file() or path.stat().st_size != size:
            return name
        if path.name == INDEX and not is_whole(path.parent):
            return PREDICTIONS
    return ""


def is_done(job: Job) -> bool:
    """Whether a job was carried out before, by the present code, and what it left is there."""
    return not why_not_done(job)


def result_of(folder: Path) -> str:
    """A digest of what the job in a folder left for others; empty where it is not done or was cut.

    It is of the content: a job that is carried out anew and leaves the same makes no other one
    stale.
    """
    file = Path(folder) / DONE
    done, _ = _read_done(file) if file.is_file() else ({}, "")
    return "" if _cut(Path(folder), done) else done.get("result", "")


def mark_done(
    job: Job,
    digest: str,
    seconds: float,
    figures: dict,
    code: dict[str, str] | None = None,
    predicting: dict | None = None,
) -> None:
    """Note that a job is carried out; written last.

    Parameters
    ----------
    job
        The job.
    digest
        `job_digest` of it, taken before the work.
    seconds
        How long it took.
    figures
        Its figures, such as the held-out top-1, plain numbers by name.
    code
        `job_code` of it, taken before the work; the present one where none is given.
    predicting
        How its predictions went: `seconds`, `images_per_second` and `waiting`; nothing where it
        predicted nothing.
    """
    folder, left = Path(job.folder), {}
    for name in (WEIGHTS, TUNED, RATES, f"{PREDICTIONS}/{INDEX}"):
        if (folder / name).is_file():
            size = (folder / name).stat().st_size
            left[name] = {"bytes": size, "sha256": file_digest(folder / name)}
    contents = {name: written["sha256"] for name, written in left.items()}
    write_json(
        {
            "digest": digest,
            "job": {n: value for n, value in fields_of(job).items() if n not in NOT_COMPARED},
            "result": hashlib.sha256(json.dumps(contents).encode()).hexdigest(),
            "left": left,
            "seconds": round(seconds, 1),
            "figures": figures,
            "predicting": predicting or {},
            "code": job_code(job) if code is None else code,
        },
        folder / DONE,
    )


def accept_job_code(folder: Path) -> list[str]:
    """Take all jobs below a folder for done that their code alone makes stale; returns their names.

    For whoever knows that a change of code leaves the results as they are.
    """
    accepted = []
    for file in sorted(Path(folder).rglob(DONE)):
        if not (file.parent / "job.json").is_file():
            continue
        job, (done, wrong) = read_job(file.parent / "job.json"), _read_done(file)
        if wrong:
            continue
        code = job_code(job)
        if done["digest"] == job_digest(job) and changed(done.get("code", {}), code):
            write_json(done | {"code": code}, file)
            accepted.append(job.name)
    return accepted
