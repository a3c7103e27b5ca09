"""The augmentation sheet: each random change of a recipe alone, weaker and stronger, then together.

A picture for the eye: it shows what each setting does to a photo before anybody trains with it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from fgvc_utils.contest.config import Shared
from fgvc_utils.core.files import read_json, whole_file
from fgvc_utils.hardware.plan import code_stamp, read_launch
from fgvc_utils.jobs.records import LISTS_OF_PLACES, PLACES, Job
from fgvc_utils.jobs.rows import in_cache
from fgvc_utils.jobs.running import REQUEST, ask_ranks
from fgvc_utils.looking.sheets import fitted, font
from fgvc_utils.training.changes import (
    CHANGES,
    MIXES,
    Change,
    Mix,
    Step,
    crop_steps,
    mixes_of,
    strengths,
)
from fgvc_utils.training.resizing import resizing_of

if TYPE_CHECKING:
    from torch import Tensor

TILE, GAP, GROUP_GAP, LABEL = 106, 3, 8, 190
GROUPS, PER_GROUP = 3, 2
DRAWS = GROUPS * PER_GROUP
LINE, HEAD = TILE + 26, 26
# So many draws are made of each step, and those are shown that change the photo most.
TRIED = 8
# The margin of the random crop that is shown where the recipe has none, and the least area of one
# of a random size.
USUAL_MARGIN, USUAL_SMALLEST = 0.15, 0.35


@dataclass(frozen=True)
class Line:
    """A random change with the settings of one recipe: a line of the sheet.

    `often` says how often the recipe draws it, and is empty where the recipe has it off. A line
    that is not `graded` has one step. `detail`: it changes single pixels, which a shrunk picture
    would hide.
    """

    name: str
    what: str
    often: str
    steps: tuple[Step, ...]
    graded: bool = True
    detail: bool = False


def lines_of(job: Job) -> list[Line]:
    """Return a line for each random change, those with a strength first.

    They have the job's settings, or usual ones where the job has a change off. What half and double
    mean says `Doubling` of each entry in `training.changes`; for the random crop it is the margin.
    """
    changes = [_line(job, change) for change in CHANGES]
    graded = [line for line in changes if line.graded]
    plain = [line for line in changes if not line.graded]
    return [*_crops(job), *graded, *plain, *(_mix(job, mix) for mix in MIXES)]


def _crops(job: Job) -> tuple[Line, Line]:
    """The lines of the two ways to cut, of which a recipe has one."""
    resized = bool(job.random_crop and job.crop_smallest)
    plain = job.random_crop and not resized
    what = "another piece each time; a higher ratio cuts off more"
    first = Line("Random crop", what, "always" if plain else "", _crop_steps(job.train_ratio))
    steps = crop_steps(job.crop_smallest or USUAL_SMALLEST, job.crop_stretch)
    what = "a piece of another size and shape each time"
    return first, Line("Random resized crop", what, "always" if resized else "", steps)


def _line(job: Job, change: Change) -> Line:
    often, settings = "", change.usual
    if change.is_on(job.augmentation):
        always = change.switch in change.strengths
        often = "always" if always else _often(job.augmentation[change.switch])
        settings = job.augmentation
    graded = change.doubling is not None
    return Line(change.name, change.what, often, change.steps(settings), graded, change.detail)


def _often(probability: float, of: str = "photos") -> str:
    """How often a change is drawn, as a phrase."""
    return f"in {probability:.0%} of the {of}"


def _mix(job: Job, mix: Mix) -> Line:
    settings = {"mix": mix.kind, "mix_alpha": _alpha(job, mix)}
    often = _often_mixed(job, mix)
    step = Step(1, "several draws, from little to much", settings)
    return Line(mix.name, mix.what, often, (step,), graded=False)


def _often_mixed(job: Job, mix: Mix) -> str:
    """How often batches are mixed so; empty for a recipe that never draws it."""
    kinds = mixes_of(job.mix)
    if mix not in kinds or not job.mix_probability:
        return ""
    return _often(job.mix_probability / len(kinds), "batches")


def _alpha(job: Job, mix: Mix) -> float:
    in_turns = len(mixes_of(job.mix)) > 1
    return job.mixup_alpha if in_turns and mix.kind == "mixup" else job.mix_alpha


def _crop_steps(ratio: float) -> tuple[Step, ...]:
    # Without a margin there is no half of it and no double; the usual one shows what it would do.
    margins = strengths(ratio - 1, 0, 2) if ratio > 1 else {1: 0.0, 2: USUAL_MARGIN}
    return tuple(
        Step(place, f"ratio {1 + margin:.3g}", {"train_ratio": 1 + margin})
        for place, margin in margins.items()
    )


def sheet(job: Job, rows: pd.DataFrame) -> Image.Image:
    """Draw what the random changes of a job do to the first photos of its rows.

    A line a change. First those with a strength: the untouched centre crop, then half, own and
    double strength, of each the two of eight draws that change the photo most. Then those without.
    A change that the job has switched off is shown with usual settings, and the line says so. Last
    all together, as training draws them. The global random numbers of torch stay as they were.

    Parameters
    ----------
    job : Job
        Whose recipe is shown, at its size.
    rows : DataFrame
        A row a photo: image_id, and file, a picture of the cache. The first is changed alone, the
        second is mixed into it.

    Returns
    -------
    Image
        977 px wide, in true colour, since colours are what some changes change.

    Raises
    ------
    ValueError
        Where no row is given.
    """
    _check_rows(rows)
    import torch

    rows = rows.head(DRAWS)
    files = rows["file"].tolist()
    with torch.random.fork_rng(devices=[]), _one_thread():
        lines = lines_of(job)
        graded = [_drawn_line(job, line, files) for line in lines if line.graded]
        plain = [_drawn_line(job, line, files) for line in lines if not line.graded]
        together = _lines_together(job, rows)
    strength_heads = ["half as strong", "as in the recipe", "twice as strong"]
    sections = [
        (f"of {TRIED} draws the {PER_GROUP} strongest", strength_heads, graded),
        ("", ["some draws"], plain),
        ("", ["as training draws them"], together),
    ]
    height = sum(HEAD + LINE * len(lines) for *_, lines in sections)
    width = _x(DRAWS - 1) + TILE + GAP
    drawn = Image.new("RGB", (width, height), "white")
    pen, top = ImageDraw.Draw(drawn), 0
    for remark, heads, lines in sections:
        pen.line([(0, top + 1), (width, top + 1)], fill="#bbbbbb")
        pen.text((6, top + 10), remark, fill="#777777", font=font(11))
        pen.text((_x(-1), top + 8), "untouched", fill="black", font=font(13))
        for group, head in enumerate(heads):
            pen.text((_x(group * PER_GROUP), top + 8), head, fill="black", font=font(13))
        top += HEAD
        for line in lines:
            _draw_line(drawn, pen, top, line)
            top += LINE
    return drawn


def sheet_by_ranks(job: Job, rows: pd.DataFrame, cfg: Shared, stage: str) -> Image.Image:
    """The same, drawn by the ranks, which have torch loaded: a kernel would take seconds for it.

    What was drawn before for the same recipe and photos, by the same code, is shown again.

    Parameters
    ----------
    job, rows
        As in `sheet`.
    cfg : Shared
        The stage's parameters.
    stage : str
        The picture lies in `launches/<stage>-sheet` of the run.

    Raises
    ------
    ValueError
        Where no row is given.
    RankFailed
        Where it cannot be drawn.
    """
    _check_rows(rows)
    stage = f"{stage}-sheet"
    folder = cfg.folder / "launches" / stage
    picture = folder / "sheet.png"
    shown = {name: rows[name].head(DRAWS).tolist() for name in ("image_id", "file")}
    request = {"job": job.model_dump(mode="json"), "rows": shown, "picture": str(picture)}
    request["code"] = code_stamp()
    if not (picture.is_file() and _same_request(folder / REQUEST, request)):
        picture.unlink(missing_ok=True)
        ask_ranks("fgvc_utils.looking.augment_sheet:draw", request, cfg, stage)
    with Image.open(picture) as drawn:
        drawn.load()
        return drawn


def _same_request(file: Path, request: dict) -> bool:
    try:
        return _without_places(read_json(file)) == _without_places(request)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _without_places(request: dict) -> tuple:
    """What a sheet is drawn of, wherever the run lies that asks for it."""
    job, rows = request["job"], request["rows"]
    recipe = {name: job[name] for name in job if name not in {*PLACES, *LISTS_OF_PLACES}}
    return recipe, rows["image_id"], [in_cache(file) for file in rows["file"]], request["code"]


def draw(launch_file: str) -> None:
    """Draw the sheet that `sheet_by_ranks` asks for; one rank does it."""
    if int(os.environ["RANK"]):
        return
    request = read_json(Path(read_launch(launch_file).jobs[0]))
    drawn = sheet(Job(**request["job"]), pd.DataFrame(request["rows"]))
    with whole_file(Path(request["picture"])) as temporary:
        drawn.save(temporary, format="PNG")


def _check_rows(rows: pd.DataFrame) -> None:
    if not {"image_id", "file"} <= set(rows) or not len(rows):
        raise ValueError("rows holds no photo to draw; give rows of a job: image_id and file")


@contextmanager
def _one_thread() -> Iterator[None]:
    """On pictures this small torch's threads wait for each other longer than they work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Drawn:
    """A line of the sheet: texts at its left, labels over its tiles, and tiles, both by column.

    `often` is empty for what the recipe has switched off. Column -1 is that of the untouched
    photo, 0 to 5 are those of the draws.
    """

    name: str
    what: str
    often: str
    labels: dict[int, str]
    tiles: dict[int, np.ndarray]


def _x(column: int) -> int:
    """Where a column of tiles begins."""
    groups = 0 if column < 0 else 1 + column // PER_GROUP
    return LABEL + (column + 1) * (TILE + GAP) + groups * GROUP_GAP


def _draw_line(drawn: Image.Image, pen: ImageDraw.ImageDraw, top: int, line: _Drawn) -> None:
    ink = "black" if line.often else "#777777"
    pen.text((6, top + 21), line.name, fill=ink, font=font(14))
    state = line.often or "off in this recipe; usual settings"
    small, y = font(11), top + 41
    for text, colour in ((state, "#0072b2" if line.often else "#d55e00"), (line.what, ink)):
        for part in _wrapped(text, small, LABEL - 16):
            pen.text((6, y), part, fill=colour, font=small)
            y += 14
        y += 2
    for column, text in line.labels.items():
        last = DRAWS - 1 if len(line.labels) == 1 else column + PER_GROUP - 1
        width = _x(last) + TILE - _x(column)
        pen.text((_x(column), top + 7), fitted(text, small, width), fill=ink, font=small)
    for column, tile in line.tiles.items():
        drawn.paste(Image.fromarray(tile), (_x(column), top + 22))


def _wrapped(text: str, letters: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines that are at most `width` pixels wide, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _drawn_line(job: Job, line: Line, files: list[str]) -> _Drawn:
    """A change alone: its steps, each drawn several times from seeds that all steps share."""
    from fgvc_utils.contest.images import read_cached
    from fgvc_utils.training import augment

    photos = [augment.to_tensor(read_cached(file)) for file in files[:2]]
    centre = augment.train_view(job.size, job.train_ratio, False, resizing_of(job.backbone))
    untouched, *other = [centre(photo) for photo in photos]
    labels, tiles = {}, {-1: _tile(untouched, line.detail)}
    for step in line.steps:
        column = PER_GROUP * step.place if line.graded else 0
        labels[column] = step.label
        if "mix" in step.settings and not other:
            labels[column] = "needs a second photo"
            continue
        draws = [
            _drawn(job, step, photos[0], [untouched, *other], seed).numpy()
            for seed in range(TRIED if line.graded else 2 * DRAWS)
        ]
        ordered = _by_change(draws, untouched.numpy())
        chosen = ordered[-PER_GROUP:] if line.graded else _spread(ordered, DRAWS)
        for place, draw in enumerate(chosen):
            tiles[column + place] = _tile(draw, line.detail)
    what = line.what
    if line.detail and job.size > TILE:
        what += "; a piece in full resolution"
    return _Drawn(line.name, what, line.often, labels, tiles)


def _drawn(job: Job, step: Step, photo: "Tensor", crops: "list[Tensor]", seed: int) -> "Tensor":
    """One draw of a step, uint8 (3, size, size), from the photo or from its centre crop."""
    import torch

    from fgvc_utils.training import augment

    torch.manual_seed(seed)
    if "train_ratio" in step.settings:
        ratio, how = step.settings["train_ratio"], resizing_of(job.backbone)
        return augment.train_view(job.size, ratio, resizing=how)(photo)
    if "crop_smallest" in step.settings:
        crop, how = step.settings.values(), resizing_of(job.backbone)
        return augment.train_view(job.size, job.train_ratio, True, *crop, resizing=how)(photo)
    if "mix" in step.settings:
        kind = step.settings["mix"]
        mixed, _ = augment.mix_batch(
            torch.stack(crops), torch.eye(2), kind, 1.0, step.settings["mix_alpha"]
        )
        return mixed[0]
    return augment.random_changes(step.settings)(crops[0])


def _by_change(draws: list[np.ndarray], untouched: np.ndarray) -> list[np.ndarray]:
    """The draws that differ from each other, from the least to the most changed."""
    different = list({draw.tobytes(): draw for draw in draws}.values())
    return sorted(different, key=lambda draw: np.abs(draw.astype(int) - untouched).mean())


def _spread(ordered: list[np.ndarray], count: int) -> list[np.ndarray]:
    """At most `count` of the draws, evenly from the first to the last."""
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered)))
    return [ordered[round(place)] for place in places]


def _lines_together(job: Job, rows: pd.DataFrame) -> list[_Drawn]:
    """What the network sees: two photos in their first epochs, and a mixed batch."""
    import torch

    from fgvc_utils.contest.images import read_cached
    from fgvc_utils.training import augment
    from fgvc_utils.training.feed import Changes, Pictures, image_keys

    files = rows["file"].tolist()
    how = resizing_of(job.backbone)
    view = augment.train_view(
        job.size, job.train_ratio, job.random_crop, job.crop_smallest, job.crop_stretch, how
    )
    changes = Changes(augment.random_changes(job.augmentation), job.seed)
    targets, keys = torch.zeros(len(files), 1), image_keys(rows["image_id"].tolist())
    pictures = Pictures(files, targets, view, job.seed, changes, keys=keys)
    centre = augment.train_view(job.size, job.train_ratio, False, how)
    lines = []
    for row, file in enumerate(files[:2]):
        tiles = {-1: _tile(centre(augment.to_tensor(read_cached(file))))}
        epochs = [pictures.__getitems__([(epoch, row)])[0][0] for epoch in range(DRAWS)]
        tiles |= {epoch: _tile(picture) for epoch, picture in enumerate(epochs)}
        name, what = "All together", "all but mixing, each with its own probability"
        lines.append(_Drawn(name, what, "always", {0: "six draws"}, tiles))
    for mix in mixes_of(job.mix) if len(files) > 1 else ():
        alpha = _alpha(job, mix)
        mixed = replace(changes, mix=mix.kind, mix_probability=1.0, mix_alpha=alpha)
        mixing = replace(pictures, changes=mixed)
        batch, _ = mixing.__getitems__([(0, row) for row in range(len(files[:DRAWS]))])
        tiles = {place: _tile(picture) for place, picture in enumerate(batch)}
        what = "each photo is mixed with another of its batch"
        name, labels = f"All and {mix.name}", {0: "photos of one batch"}
        lines.append(_Drawn(name, what, _often_mixed(job, mix), labels, tiles))
    return lines


def _tile(picture: "np.ndarray | Tensor", detail: bool = False) -> np.ndarray:
    """A picture (3, size, size) as a tile: shrunk, or with `detail` its centre pixel by pixel."""
    pixels = np.asarray(picture).transpose(1, 2, 0)
    size = len(pixels)
    if detail and size > TILE:
        edge = (size - TILE) // 2
        return np.ascontiguousarray(pixels[edge : edge + TILE, edge : edge + TILE])
    return np.asarray(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.LANCZOS))
