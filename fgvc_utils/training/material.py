"""The rows of a job with what they teach, as the data sets that training and predicting read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms import v2

from fgvc_utils.contest.decoded import Decoded, decoded_folder
from fgvc_utils.jobs.done import job_code, job_digest
from fgvc_utils.jobs.predictions import Store, same_classes
from fgvc_utils.jobs.records import Job
from fgvc_utils.jobs.rows import FOLD, fitted_images, read_rows
from fgvc_utils.training import augment
from fgvc_utils.training.feed import Changes, Pictures, Targets, image_keys
from fgvc_utils.training.resizing import Resizing, resizing_of
from fgvc_utils.training.stored import SideBySide, StoredFeatures


def decoded_pictures(cache: str, side: int, interpolation: str) -> Decoded | None:
    """Return the decoded pictures of one side, px, in a cache; None where there are none."""
    folder = decoded_folder(Path(cache), side, interpolation)
    return Decoded(folder) if cache and folder.is_dir() else None


class Material:
    """A job's rows with their targets, and the data sets over them.

    Attributes
    ----------
    rows : DataFrame
        As `jobs.rows.ROW_COLUMNS` has them.
    labels, judged : ndarray of int (rows,)
        Class numbers of the target, and of the label that predictions are compared with; -1 where
        there is none.
    fit_rows, validate_rows, predict_rows : ndarray of int
        Rows that are trained on, that judge, and that are predicted.
    counts : ndarray of int (classes,)
        Train images of each class.
    ids : list of str
        The rows' image ids.
    folds : ndarray of int (rows,) or None
        The fold of each row of a crossed job.
    digest, code
        What the result depends on, see `jobs.done`.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.rows = read_rows(job)
        index = {name: number for number, name in enumerate(job.classes)}
        self.labels = np.array([index.get(target, -1) for target in self.rows["target"]])
        self.judged = np.array([index.get(label, -1) for label in self.rows["label"]])
        self.fit_rows = np.flatnonzero(self.rows["fit"])
        self.validate_rows = np.flatnonzero(self.rows["validate"])
        self.predict_rows = np.flatnonzero(self.rows["predict"])
        self.counts = np.bincount(
            self.labels[self.fit_rows][self.labels[self.fit_rows] >= 0],
            minlength=len(job.classes),
        )
        self.ids = self.rows["image_id"].tolist()
        self.folds = self.rows[FOLD].to_numpy() if job.crossed else None
        self.stores = [Store(Path(store)) for store in job.stores]
        # Taken before the work: what is read now is what the result will depend on.
        self.digest, self.code = job_digest(job), job_code(job)
        self.plain_targets = Targets(self.labels, len(job.classes))

    @property
    def resizing(self) -> Resizing:
        """Return how the job's network has its pictures resized."""
        return resizing_of(self.job.backbone)

    @property
    def masked(self) -> torch.Tensor:
        """Return which classes are not predicted, boolean (classes,): those without a train image.

        All false where the job keeps them, or learns from teachers alone, who may know them.
        """
        job = self.job
        learned = job.fit != "none" or job.trained
        masks = learned and job.teacher_weight < 1 and not job.keep_empty
        return torch.from_numpy((self.counts == 0) & bool(masks))

    def targets(self) -> Targets:
        """Return what each row teaches: its label, and what the job's teachers predict of it.

        Raises
        ------
        ValueError
            Where a teacher knows other classes, or where `fold_clean` leaves an image no teacher.
        """
        classes, teachers = self.job.classes, []
        if self.job.teacher_weight:
            teachers = [Store(Path(store)) for store in self.job.teachers]
            if same_classes(teachers) != classes:
                raise ValueError(
                    f"the teachers of job {self.job.name} know other classes than it does"
                )
        # Only the images that are fitted have teachers; the others keep zeros.
        places = []
        for teacher in teachers:
            place = np.full(len(self.ids), -1)
            taught = self.fit_rows
            if self.job.fold_clean:
                fitted = fitted_images(teacher.folder.parent)
                taught = taught[[self.ids[row] not in fitted for row in taught]]
            place[taught] = teacher.rows_of([self.ids[row] for row in taught])
            places.append(place)
        furthest = np.max(places, axis=0) if teachers else np.zeros(len(self.ids))
        untaught = self.fit_rows[furthest[self.fit_rows] < 0]
        if len(untaught):
            raise ValueError(
                f"job {self.job.name}: every teacher was trained on {len(untaught)} of its images, "
                f"first {self.ids[untaught[0]]!r}, and fold_clean forbids that they teach them; "
                "give teachers that held out other folds"
            )
        return Targets(
            self.labels,
            len(classes),
            teachers,
            places,
            self.job.temperature,
            *self._soft_labels(),
        )

    def _soft_labels(self) -> tuple[Store | None, np.ndarray | None]:
        """The job's soft labels, and which row of them each image that is fitted teaches."""
        if not self.job.soft_labels:
            return None, None
        soft = Store(Path(self.job.soft_labels))
        if soft.classes != self.job.classes:
            raise ValueError(f"the soft labels of job {self.job.name} know other classes than it")
        places = np.full(len(self.ids), -1)
        places[self.fit_rows] = soft.image_ids.get_indexer([self.ids[row] for row in self.fit_rows])
        return soft, places

    def train_pictures(self, *, mix: bool = False, later: bool = False) -> Pictures:
        """Return pictures of all rows as they are trained on: cropped, and changed now or later."""
        job = self.job
        view = augment.train_view(
            job.size,
            job.train_ratio,
            job.random_crop,
            job.crop_smallest,
            job.crop_stretch,
            self.resizing,
        )
        pictures = self._pictures(view, job.train_side)
        return replace(pictures, changes=self.changes(mix=mix), changes_later=later)

    def test_pictures(self, *, mirrored: bool = False) -> Pictures:
        """Return pictures of all rows as they are predicted, or their mirror images."""
        view = augment.test_view(self.job.size, self.job.test_ratio, self.resizing)
        if mirrored:
            view = v2.Compose([view, v2.RandomHorizontalFlip(1.0)])
        # What was decoded has its aspect still, and would be resized twice.
        return self._pictures(view, 0 if self.resizing.squash else self.job.test_side)

    def _pictures(self, view: augment.Transform, side: int) -> Pictures:
        files = self.rows["file"].tolist()
        return Pictures(
            files,
            self.plain_targets,
            view,
            self.job.seed,
            keys=image_keys(self.ids),
            decoded=decoded_pictures(self.job.decoded, side, self.resizing.interpolation),
        )

    def changes(self, *, mix: bool = False) -> Changes:
        """Return all random changes of the job; `mix` adds its CutMix or Mixup."""
        job = self.job
        return Changes(
            augment.random_changes(job.augmentation),
            job.seed,
            job.mix if mix else "none",
            job.mix_probability,
            job.mix_alpha,
            job.mixup_alpha,
        )

    def features(self, views: list[str]) -> StoredFeatures:
        """Return stored features of all rows, the stores side by side, one array a view."""
        arrays = [SideBySide(self.stores, view, self.ids) for view in views]
        return StoredFeatures(arrays, self.plain_targets, self.job.seed)

    def train_set(self, *, changes_later: bool = False) -> Dataset:
        """Return what the job learns from; its random changes may be left to the device."""
        if self.job.fit == "head":
            return replace(self.features(self.job.train_views), targets=self.targets())
        pictures = self.train_pictures(mix=True, later=changes_later)
        return replace(pictures, targets=self.targets(), views=self.job.teacher_views)

    def test_set(self, view: str = "features") -> Dataset:
        """Return the same rows as they are shown when predicting; a head takes one of its views."""
        if self.job.fit == "head":
            return self.features([view])
        return self.test_pictures()

    def test_sets(self) -> list[Dataset]:
        """Return the rows under each view that is predicted: a head's views, or the centre."""
        views = self.job.test_views if self.job.fit == "head" else ["features"]
        return [self.test_set(view) for view in views]
