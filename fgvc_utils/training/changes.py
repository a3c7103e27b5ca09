"""The random changes of a recipe, an entry each: what the parameters, jobs and the sheet read.

A new one takes an entry here, its builder in `augment.BUILDERS` (or `augment.MIXERS`), and its
parameters in the notebooks 10 and 20. Names, captions and steps are apart from the builders
because they change no picture: rewording one makes no trained model stale. Torch is not loaded
here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from fgvc_utils.contest.parameters import Share

# A scale of a picture, and a quality of JPEG.
Scale = Annotated[float, Field(gt=0, le=1)]
Quality = Annotated[int, Field(ge=1, le=100)]
TilesASide = Annotated[int, Field(ge=2, le=16)]
# Strengths as torchvision counts them, and a number of operations.
Magnitude = Annotated[int, Field(ge=0, le=30)]
Operations = Annotated[int, Field(ge=1, le=14)]
Severity = Annotated[int, Field(ge=1, le=10)]
# Of a picture's area; random erasing covers at least the least of it.
Erased = Annotated[float, Field(ge=0.02, le=1)]


@dataclass(frozen=True)
class Step:
    """One strength of a change, as the sheet shows it.

    Attributes
    ----------
    place : int
        0 for half the recipe's strength, 1 for the recipe's own (or the usual one, where the change
        is off), 2 for double.
    label : str
        The title above its tiles.
    settings : dict
        Switch on this change alone, always: settings of `augment.random_changes`, or `train_ratio`,
        or `crop_smallest` and `crop_stretch`, or `mix` and `mix_alpha`.
    """

    place: int
    label: str
    settings: dict[str, float | str]


@dataclass(frozen=True)
class Doubling:
    """What twice as strong means: the amount that is doubled, between `least` and `most`.

    `amount` makes it of a setting, `setting` makes a setting of it.
    """

    amount: Callable[[float], float]
    setting: Callable[[float], float]
    least: float
    most: float

    def steps(self, own: float) -> dict[int, float]:
        """Return half, own and double strength as settings, by place (0, 1, 2).

        A weaker or stronger one that the range makes equal to the own one is left out.
        """
        amounts = strengths(self.amount(own), self.least, self.most)
        return {place: self.setting(amount) for place, amount in amounts.items()}


def strengths(own: float, least: float, most: float) -> dict[int, float]:
    """Return half, own and double of an amount by place (0, 1, 2), cut to the range.

    A weaker or stronger one that the range makes equal to the own one is left out.
    """
    found = {place: min(max(own * 2.0 ** (place - 1), least), most) for place in range(3)}
    return {place: value for place, value in found.items() if place == 1 or value != found[1]}


@dataclass(frozen=True)
class Change:
    """A random change of single pictures.

    Attributes
    ----------
    name, what : str
        What the sheet calls it, and its caption.
    switch : str
        The parameter that switches it on, above 0: a probability, or the strength of a change that
        is always made.
    types : mapping
        Parameter → type with its range: the switch and the further strengths. They are the
        parameters of 10_train and 20_distill.
    label : callable
        Of the values of its strengths, or of nothing where it has none: the text of a step.
    strengths : tuple of str
        The parameters that say how strong it is, and are doubled; two of them are a range, the
        lower bound first.
    doubling : Doubling, optional
        What twice as strong means; None for a change without a strength.
    usual : mapping
        What the sheet shows where the recipe has the change off: its strengths, and whatever else
        it takes.
    detail : bool
        It changes single pixels, which a shrunk picture would hide.
    """

    name: str
    what: str
    switch: str
    types: Mapping[str, Any]
    label: Callable[..., str]
    strengths: tuple[str, ...] = ()
    doubling: Doubling | None = None
    usual: Mapping[str, float] = field(default_factory=dict)
    detail: bool = False

    def steps(self, settings: Mapping[str, float]) -> tuple[Step, ...]:
        """Return the steps of the sheet, weaker to stronger, for the strengths of a recipe.

        Parameters
        ----------
        settings : mapping
            Parameter → value: at least those of `usual`.
        """
        if self.doubling is None:
            return (Step(1, self.label(), {self.switch: 1.0}),)
        # What is neither the switch nor a strength stays as it is.
        same = {name: settings[name] for name in self.usual if name not in self.strengths}
        graded = [self.doubling.steps(settings[name]) for name in self.strengths]
        steps = []
        for place in graded[0]:
            values = [each.get(place, each[1]) for each in graded]
            chosen = dict(zip(self.strengths, values, strict=True))
            steps.append(Step(place, self.label(*values), {self.switch: 1.0} | same | chosen))
        return tuple(steps)

    def is_on(self, settings: Mapping[str, float]) -> bool:
        """Return whether settings, parameter → value, switch it on."""
        return settings.get(self.switch, 0) > 0


@dataclass(frozen=True)
class Mix:
    """A random change of whole batches: a value of the parameter `mix`.

    `name` and `what` are what the sheet calls it and its caption.
    """

    kind: str
    name: str
    what: str


def _span(low: float, high: float) -> str:
    """`40–50`, or one number where both are the same."""
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f}–{high:.0f}"


# In the order in which they are made. Geometry comes before colour, and what a web site does to a
# photo (shrinking, JPEG) comes last, as it does in life.
CHANGES = (
    Change(
        name="Mirror",
        what="left and right change places",
        switch="flip_probability",
        types={"flip_probability": Share},
        label=lambda: "mirrored",
    ),
    Change(
        name="Quarter turn",
        what="for photos without an up and down",
        switch="quarter_turn_probability",
        types={"quarter_turn_probability": Share},
        label=lambda: "by 90°, 180° or 270°",
    ),
    Change(
        name="Shrink and paste",
        what="the subject is small and off the centre",
        switch="paste_probability",
        types={"paste_probability": Share, "paste_smallest": Scale},
        label=lambda smallest: f"down to {smallest:.0%} of a side",
        strengths=("paste_smallest",),
        # Twice as much of a side is lost.
        doubling=Doubling(lambda scale: 1 - scale, lambda lost: 1 - lost, 0, 0.9),
        usual={"paste_smallest": 0.4},
    ),
    Change(
        name="Tile shuffle",
        what="only small parts can be recognised",
        switch="shuffle_probability",
        types={"shuffle_probability": Share, "shuffle_most": TilesASide},
        label=lambda most: f"up to {most} × {most} tiles",
        strengths=("shuffle_most",),
        doubling=Doubling(int, int, 2, 16),
        usual={"shuffle_most": 4},
    ),
    Change(
        name="Colour jitter",
        what="brightness, contrast and saturation",
        switch="colour_jitter",
        types={"colour_jitter": Share},
        label=lambda strength: f"strength {strength:.3g}",
        strengths=("colour_jitter",),
        doubling=Doubling(float, float, 0, 1),
        usual={"colour_jitter": 0.2},
    ),
    Change(
        name="RandAugment",
        what="some of fourteen operations of shape and colour",
        switch="rand_augment_strength",
        types={"rand_augment_strength": Magnitude, "rand_augment_operations": Operations},
        label=lambda strength: f"magnitude {strength:.0f}",
        strengths=("rand_augment_strength",),
        doubling=Doubling(float, round, 1, 30),
        usual={"rand_augment_strength": 7, "rand_augment_operations": 2},
    ),
    Change(
        name="AugMix",
        what="mixed with copies of itself, each changed in its own way",
        switch="augmix_probability",
        types={"augmix_probability": Share, "augmix_strength": Severity},
        label=lambda strength: f"severity {strength:.0f}",
        strengths=("augmix_strength",),
        doubling=Doubling(float, round, 1, 10),
        usual={"augmix_strength": 3},
    ),
    Change(
        name="Low resolution",
        what="shrunk and enlarged again",
        switch="quality_probability",
        types={"quality_probability": Share, "quality_low": Share, "quality_high": Share},
        label=lambda low, high: f"to {_span(low * 100, high * 100)}% of a side",
        strengths=("quality_low", "quality_high"),
        # Half the share of a side is left; of shares that leave something, for a recipe may say 0.
        doubling=Doubling(lambda share: 1 / max(share, 0.01), lambda times: 1 / times, 1, 100),
        usual={"quality_low": 0.395, "quality_high": 0.5},
        detail=True,
    ),
    Change(
        name="JPEG",
        what="saved with losses",
        switch="jpeg_probability",
        types={"jpeg_probability": Share, "jpeg_low": Quality, "jpeg_high": Quality},
        label=lambda low, high: f"quality {_span(low, high)}",
        strengths=("jpeg_low", "jpeg_high"),
        # Twice as much of the quality is lost.
        doubling=Doubling(lambda quality: 100 - quality, lambda lost: round(100 - lost), 0, 99),
        usual={"jpeg_low": 30, "jpeg_high": 95},
        detail=True,
    ),
    Change(
        name="Erasing",
        what="a grey rectangle covers a part",
        switch="erasing_probability",
        types={"erasing_probability": Share, "erasing_largest": Erased},
        label=lambda largest: f"up to {largest:.0%} of the picture",
        strengths=("erasing_largest",),
        doubling=Doubling(float, float, 0.02, 1),
        usual={"erasing_largest": 0.33},
    ),
)
MIXES = (
    Mix("cutmix", "CutMix", "a piece of another photo; the label is mixed as the area"),
    Mix("mixup", "Mixup", "another photo shines through; so does its label"),
)
# All of them in turns: each batch that is mixed gets one.
IN_TURNS = "+".join(mix.kind for mix in MIXES)
# The type of the parameter `mix`.
MixKind = Literal[("none", *(mix.kind for mix in MIXES), IN_TURNS)]


def mixes_of(kind: str) -> tuple[Mix, ...]:
    """Return the changes of whole batches that a value of the parameter `mix` stands for."""
    return tuple(mix for mix in MIXES if mix.kind in kind.split("+"))


def crop_steps(smallest: float, stretch: float) -> tuple[Step, ...]:
    """Return the steps of crops of a random size: half and twice as much of the area is lost.

    Parameters
    ----------
    smallest, stretch : float
        Of the recipe, see `augment.train_view`.
    """
    steps = []
    for place, lost in strengths(1 - smallest, 0, 0.95).items():
        settings = {"crop_smallest": 1 - lost, "crop_stretch": stretch}
        steps.append(Step(place, f"from {1 - lost:.0%} of the area", settings))
    return tuple(steps)


def parameter_types() -> dict[str, Any]:
    """Return the parameters of all changes: name → type with its range."""
    return {name: kind for change in CHANGES for name, kind in change.types.items()}


def misordered(settings: Any) -> str:
    """Return what is wrong with the ranges of some parameters; empty where nothing is.

    Parameters
    ----------
    settings : TrainParams or DistillParams
        Has the parameters of all changes as attributes.
    """
    for change in CHANGES:
        low, high = change.strengths[0:1], change.strengths[1:2]
        if high and getattr(settings, low[0]) > getattr(settings, high[0]):
            return f"{low[0]} is above {high[0]}"
    return ""


def switched_on(settings: Any) -> dict[str, float]:
    """Return a job's `augmentation`: the changes that are on, each with its strengths.

    What is off is left out, so the records of earlier jobs stay the same when a change is added.

    Parameters
    ----------
    settings : TrainParams or DistillParams
        Has the parameters of all changes as attributes.
    """
    return {
        name: getattr(settings, name)
        for change in CHANGES
        if getattr(settings, change.switch) > 0
        for name in change.types
    }
