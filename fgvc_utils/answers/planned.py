"""What a submission will be, before anything is answered: its images, their names and its layout.

Made by the check from the listing and by 40 from the label table, so that both see the same.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fgvc_utils.answers import samples
from fgvc_utils.answers.assignment import RULES
from fgvc_utils.answers.forms import FORMS, Layout, described
from fgvc_utils.answers.names import (
    IMAGE_NAMES,
    ClassSpelling,
    image_names,
    other_spelling,
    spelt_classes,
)

# The sample is looked for under this name where nobody names another one.
USUAL_SAMPLE = "sample_submission.csv"
SAMPLE_LIKE = re.compile(r"(?i)sample[_ -]?submissions?.*\.(csv|zip|gz|txt|tsv)")
# At their defaults these parameters claim nothing.
USUAL_NAME, USUAL_COLUMNS = "path", ["path", "class"]
# What an image is called in place of its id where the sample names it and it is not there.
MISSING = "not among the test images: "


@dataclass(frozen=True)
class Plan:
    """What a submission will be.

    Attributes
    ----------
    layout : Layout
        How the file looks.
    names : pd.Series
        What the contest calls each image, text, in the order of the file; by image id.
    images : pd.Series
        The ids of the same images in the order of the label table; those that are missing last.
    missing : list of str
        Ids of images that the sample names and the test images lack; they begin with `MISSING`.
    surplus : int
        How many test images the sample does not name; they are left out of the file.
    notes : list of str
        What a person should look at.
    said : list of str
        What the sample decided as it should.
    """

    layout: Layout
    names: pd.Series
    images: pd.Series
    missing: list[str]
    surplus: int
    notes: list[str]
    said: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """How the file will look, in words, and what there is to know."""
        start = f"{len(self.names)} images: {self.form}"
        return "\n".join([start, *(f"note: {note}" for note in self.notes)])

    @property
    def form(self) -> str:
        """How the file will look, in words."""
        return ", ".join([described(self.layout), *self.said])


def spelling_of(cfg: Any) -> ClassSpelling:
    """How the parameters of 40 ask for the classes to be written."""
    return ClassSpelling(cfg.class_names, cfg.class_digits, cfg.first_class)


def plan_of(cfg: Any, rows: pd.DataFrame, classes: Sequence[str], files: Path | None) -> Plan:
    """Plan a submission.

    Parameters
    ----------
    cfg : SubmitParams
        The parameters of 40.
    rows : pd.DataFrame
        A label table or a listing, with the columns image_id, path and split.
    classes : sequence of str
        All classes of the contest, sorted.
    files : Path or None
        The folder that holds the contest's own files: its sample, its listing of names.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no test image, two would share a name, a class cannot be written as asked, the
        sample cannot be read or is none of these images and classes, or the form and the rule do
        not go together. The message names the parameter.
    """
    test = rows[rows["split"] == "test"]
    if test.empty:
        raise ValueError("the label table lists no test image; name their folder in 01: test")
    test = test.set_axis(pd.Index(test["image_id"], dtype=object))
    classes = list(classes)
    spelt = spelt_classes(classes, spelling_of(cfg))
    sample = sample_of(cfg, files)
    if sample is None:
        plan = _by_parameters(cfg, test, spelt, files)
        plan.notes.extend(_why_no_sample(cfg, files))
    else:
        plan = _by_sample(cfg, test, spelt, files, sample)
    _check(cfg, plan.layout)
    return plan


def sample_of(cfg: Any, files: Path | None) -> samples.Sample | None:
    """Read the contest's sample submission, None where there is none.

    Raises
    ------
    FileNotFoundError
        One is named that is not there.
    UnreadableFile
        It cannot be read as one.
    """
    if not cfg.sample or files is None:
        return None
    path = Path(files) / cfg.sample
    if path.is_file():
        return samples.read_sample(path)
    if cfg.sample != USUAL_SAMPLE:
        raise FileNotFoundError(f'sample: {path} is not there; sample: "" takes none')
    return None


def _why_no_sample(cfg: Any, files: Path | None) -> list[str]:
    """What to know where no sample was taken: none was looked for, or one has another name."""
    if not cfg.sample:
        return []
    if files is None:
        return [
            "the contest's folder is not there, so no sample was looked at; where it has one, put "
            "it into the run's folder contest_files"
        ]
    alike = [name for name in sorted(os.listdir(files)) if SAMPLE_LIKE.fullmatch(name)]
    return [f"{name} may be the contest's sample: set sample: {name}" for name in alike[:1]]


def _names(cfg: Any, test: pd.DataFrame, files: Path | None) -> pd.Series:
    if not cfg.names_file:
        return image_names(test, cfg.image_column)
    if files is None:
        raise FileNotFoundError(f"names_file: {cfg.names_file} is not there")
    return image_names(test, cfg.image_column, Path(files) / cfg.names_file)


def _by_parameters(cfg: Any, test: pd.DataFrame, spelt: dict[str, str], files: Path | None) -> Plan:
    """The plan where there is no sample: all test images in the table's order."""
    names = _names(cfg, test, files)
    form = "class" if cfg.form == "auto" else cfg.form
    answer, columns = tuple(cfg.columns[1:]), ()
    if FORMS[form].probabilities:
        columns, answer = tuple(spelt), tuple(spelt.values())
    layout = _layout(cfg, spelt, form=form, answer=answer, column_classes=columns)
    return Plan(layout, names, test["image_id"], [], 0, [])


def _layout(cfg: Any, spelt: dict[str, str], **other: Any) -> Layout:
    values = {
        "image": cfg.columns[0],
        "classes": spelt,
        "header": cfg.header,
        "separator": cfg.separator,
        "top": cfg.top,
        "top_separator": cfg.top_separator,
        "decimals": cfg.decimals,
        "packing": cfg.packing,
        "inner_name": cfg.inner_name or "submission.csv",
    }
    return Layout(**(values | other))


def _by_sample(
    cfg: Any, test: pd.DataFrame, spelt: dict[str, str], files: Path | None, sample: samples.Sample
) -> Plan:
    """The plan that the sample gives: columns, order, ids and the set of images."""
    own = f"names_file {cfg.names_file}" if cfg.names_file else cfg.image_column
    kinds: dict[str, Callable[[], pd.Series]] = {own: lambda: _names(cfg, test, files)}
    for kind in IMAGE_NAMES:
        kinds.setdefault(kind, lambda kind=kind: image_names(test, kind))
    kinds["name without folder and ending"] = lambda: samples.names_by_stem(
        sample, image_names(test, "stem")
    )
    matched = samples.match_images(sample, kinds)
    names, notes, said = kinds[matched.kind](), [], []
    if matched.kind != own and own == USUAL_NAME:
        said.append(f"images by their {matched.kind}")
    elif matched.kind != own:
        notes.append(
            f"image_column {own!r} does not name the images as {sample.path.name} does; taken is "
            f"{matched.kind!r}, as in {matched.ids[0]!r}"
        )
    asked, missing, surplus = _asked(names, matched.ids, sample, notes)
    if not asked.index.drop(missing).equals(names.index[names.isin(asked)]):
        said.append(f"lines in the order of {sample.path.name}, not in that of the test images")
    layout = _sample_layout(cfg, spelt, sample, matched, notes)
    in_order = names.index[names.isin(set(matched.ids))]
    images = pd.Series([*in_order, *missing], dtype=object)
    return Plan(layout, asked, images.set_axis(images), missing, surplus, notes, said)


def _asked(
    names: pd.Series, ids: list[str], sample: samples.Sample, notes: list[str]
) -> tuple[pd.Series, list[str], int]:
    """The images that a sample asks for, in its order, by image id; notes what is odd."""
    known, wanted = dict(zip(names, names.index, strict=True)), set(ids)
    lacking = [each for each in ids if each not in known]
    surplus = [each for each in names if each not in wanted]
    name = sample.path.name
    if 2 * len(lacking) > len(ids):
        raise ValueError(
            f"{name} names {len(ids)} images, of which the test images lack {len(lacking)}, first "
            f"{lacking[0]!r}; are these the contest's test images? {NO_SAMPLE}"
        )
    if 2 * len(surplus) > len(names):
        raise ValueError(
            f"{name} names only {len(ids) - len(lacking)} of the {len(names)} test images, not "
            f'{surplus[0]!r}; where it is an example, set sample: "" and give columns, '
            "image_column and header; where no more are asked for, list these alone in 01: test"
        )
    if lacking:
        notes.append(
            f"{len(lacking)} images of {name} are not among the test images, first {lacking[0]!r}: "
            "nobody looks at them, they get a class that has room"
        )
    if surplus:
        notes.append(
            f"{len(surplus)} test images are not in {name}, first {surplus[0]!r}: the file leaves "
            "them out"
        )
    index = [known.get(each, MISSING + each) for each in ids]
    missing = [MISSING + each for each in lacking]
    return pd.Series(ids, pd.Index(index, dtype=object), dtype=object), missing, len(surplus)


NO_SAMPLE = 'Where this is not the contest\'s sample, set sample: ""'


def _sample_layout(
    cfg: Any,
    spelt: dict[str, str],
    sample: samples.Sample,
    matched: samples.Matched,
    notes: list[str],
) -> Layout:
    """The layout that a sample shows, with what the parameters ask for beyond it."""
    shown = samples.look_beside(sample, matched, spelt, cfg.top_separator)
    name, row = sample.path.name, list(sample.rows[0])
    if shown.problem:
        _say_problem(cfg, spelt, sample, matched, shown, notes)
    form = cfg.form if cfg.form != "auto" else shown.form or "class"
    if cfg.form != "auto" and shown.form and shown.form != form and sample_is_firm(shown):
        raise ValueError(f"form {cfg.form}: {name} shows the form {shown.form}; {NO_SAMPLE}")
    image = row.pop(matched.place) if matched.header else cfg.columns[0]
    answer = tuple(row) if matched.header else tuple(cfg.columns[1:])
    columns: tuple[str, ...] = ()
    if FORMS[form].probabilities:
        columns = shown.column_classes or tuple(spelt)
        answer = answer if shown.column_classes else tuple(spelt.values())
    if matched.header and cfg.columns not in (USUAL_COLUMNS, [image, *answer]):
        notes.append(f"columns {cfg.columns} are not those of {name}, which are taken")
    if matched.header and not cfg.header:
        notes.append(f"header false: {name} has a head line, so the file has one")
    ranked = shown.top if cfg.form == "auto" or shown.split else cfg.top
    separator = sample.separator
    return _layout(
        cfg,
        spelt,
        form=form,
        image=image,
        answer=answer,
        header=matched.header,
        separator=separator,
        image_place=matched.place,
        top=ranked,
        top_separator=separator if shown.split else cfg.top_separator,
        column_classes=columns,
    )


def sample_is_firm(shown: samples.Shown) -> bool:
    """Whether the number of a sample's columns leaves one form alone."""
    return shown.form == "probabilities" or shown.split


def _say_problem(
    cfg: Any,
    spelt: dict[str, str],
    sample: samples.Sample,
    matched: samples.Matched,
    shown: samples.Shown,
    notes: list[str],
) -> None:
    """Note what of a sample does not fit the classes; raises where its columns do not."""
    others = [place for place in range(len(sample.rows[0])) if place != matched.place]
    wanted = {row[place] for row in sample.rows[int(matched.header) :] for place in others[:1]}
    if shown.split:
        wanted = {sample.rows[0][place] for place in others}
    elif shown.top > 1:
        wanted = {piece for value in wanted for piece in value.split(cfg.top_separator)}
    hint = other_spelling(wanted, list(spelt), spelling_of(cfg))
    advice = f"they are the classes with {hint}" if hint else "is label_column the right one?"
    if not hint and shown.top > 1 and not shown.split:
        advice += " Where it ranks classes, set form: top"
    text = f"{sample.path.name}: {shown.problem}; {advice}"
    if shown.form == "probabilities":
        notes.append(f"{sample.path.name}: {shown.problem}")
        return
    if shown.form == "" and len(others) > 1:
        raise ValueError(f"{text}. {NO_SAMPLE}")
    notes.append(text)


def _check(cfg: Any, layout: Layout) -> None:
    """Raise ValueError where form, rule, columns and separators do not go together."""
    form, texts = FORMS[layout.form], list(layout.classes.values())
    split = layout.form == "top" and layout.top_separator == layout.separator
    wanted = layout.top if split else 1
    if form.probabilities and not RULES[cfg.rule].probabilities:
        able = " or ".join(name for name, rule in RULES.items() if rule.probabilities)
        raise ValueError(
            f"form probabilities: the rule {cfg.rule} gives each image one class, no "
            f"probabilities; set rule to {able}"
        )
    if layout.header and not form.probabilities and len(layout.answer) != wanted:
        raise ValueError(
            f"columns {[layout.image, *layout.answer]}: the file has {1 + wanted} columns; name "
            "each of them"
        )
    if form.ranks and layout.top > len(texts):
        raise ValueError(f"top {layout.top}: there are only {len(texts)} classes")
    if form.ranks and not split:
        odd = [text for text in texts if layout.top_separator in text]
        if odd:
            raise ValueError(
                f"top_separator {layout.top_separator!r} is part of the class {odd[0]!r}; set "
                "another one, or class_names: index"
            )
