"""What a check found, and what several checks need of a contest."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass
class Findings:
    """What a check found: texts, one a problem; `facts` are what it counted on the way."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def add_bad(self, text: str, *, every: bool, if_every: str, if_some: str) -> None:
        """Note bad items: an error where every one that was tried is bad, else a warning.

        Parameters
        ----------
        text
            How many are bad, and such as which.
        every
            Whether none was good.
        if_every, if_some
            What follows from it, or what to do, in either case.
        """
        if every:
            self.errors.append(f"{text}; {if_every}")
        else:
            self.warnings.append(f"{text}; {if_some}")

    def text(self) -> str:
        """All of it in lines: facts, then warnings, then errors."""
        lines = list(self.facts)
        lines += [f"warning: {text}" for text in self.warnings]
        lines += [f"to mend before a run: {text}" for text in self.errors]
        return "\n".join(lines)


class Contest:
    """The steps of a contest with what several checks need of it."""

    def __init__(self, steps: Sequence[Any], sample_seconds: float) -> None:
        self.steps = list(steps)
        self.sample_seconds = sample_seconds
        self.folder: Path = steps[0].cfg.folder
        self.root: Path | None = None
        # All images with image_id, path, split, given; None where they cannot be listed.
        self.images: pd.DataFrame | None = None
        # Paths of images whose files hold another content than at the last run.
        self.changed: list[str] = []
        # Bytes of a cached JPEG, estimated from some images.
        self.jpeg_bytes = 0.0

    def of(self, *stages: str) -> list[Any]:
        """The steps of some stages, in order."""
        return [step for step in self.steps if step.stage in stages]

    def count(self, split: str) -> int:
        """How many images a split has, 0 where they cannot be listed."""
        return 0 if self.images is None else int((self.images["split"] == split).sum())

    @property
    def classes(self) -> list[str]:
        """All class names, sorted."""
        train = self.images["split"] == "train"
        return sorted(set(self.images.loc[train, "given"]))

    @property
    def class_sizes(self) -> pd.Series:
        """Train images a class, by its name; empty where they cannot be listed."""
        if self.images is None:
            return pd.Series([], dtype="int64")
        return self.images.loc[self.images["split"] == "train", "given"].value_counts()

    @property
    def folds(self) -> int:
        """Into how many folds 01 cuts the train images, 0 where it is no part of the contest."""
        return next((step.cfg.folds for step in self.of("01_noise")), 0)
