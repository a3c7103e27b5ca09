"""The pictures of the demo set: drawn plants and animals, and images of nothing living.

Every picture is drawn from its own random generator alone, so it does not matter where or in
which order pictures are drawn. Subjects live in a unit frame (x to the right, y down, most of it
within -1…1) and are drawn twice as large as wanted, then reduced: that is the antialiasing.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SUPERSAMPLING = 2
Colour = tuple[float, float, float]


# ---------------------------------------------------------------------------- colours and curves


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour as red, green, blue in 0…1; the hue wraps around at 1."""
    channel = [(n + hue * 6) % 6 for n in (5, 3, 1)]
    return tuple(value - value * saturation * max(0, min(k, 4 - k, 1)) for k in channel)


def shade(colour: Colour, amount: float) -> Colour:
    """The colour mixed with white (amount above 0) or with black (below 0)."""
    goal = 1.0 if amount > 0 else 0.0
    return tuple(c + (goal - c) * min(1.0, abs(amount)) for c in colour)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """The first colour with a share of the second."""
    return tuple(a + (b - a) * share for a, b in zip(first, second, strict=True))


def ink(colour: Colour, alpha: float = 1.0) -> tuple[int, int, int, int]:
    """A colour in 0…1 as the four bytes that Pillow draws with."""
    red, green, blue = (max(0, min(255, round(255 * c))) for c in colour)
    return red, green, blue, round(255 * alpha)


def numbers(text: str) -> np.ndarray:
    """The rows of a small table: `"0 1, 2 3"` has the rows (0, 1) and (2, 3)."""
    return np.array([row.split() for row in text.split(",")], float)


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, n: int = 36) -> np.ndarray:
    """Points (n, 2) on an ellipse, turned by `turn` radians."""
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return rotate(np.stack([rx * np.cos(a), ry * np.sin(a)], 1), turn) + (x, y)


def rotate(points: np.ndarray, angle: float) -> np.ndarray:
    """Points (n, 2) turned about the origin by `angle` radians."""
    c, s = math.cos(angle), math.sin(angle)
    x, y = points[:, 0], points[:, 1]
    return np.stack([c * x - s * y, s * x + c * y], 1)


def mirror(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) with left and right changed."""
    return points * (-1.0, 1.0)


def smooth(points: list | np.ndarray, closed: bool = True, n: int = 8) -> np.ndarray:
    """A Catmull-Rom curve through the points, with n points a stretch."""
    p = np.asarray(points, float)
    if not closed:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.linspace(0, 1, n, endpoint=False)[None, :, None]
    a, b, c, d = (np.roll(p, k, 0)[:, None] for k in (1, 0, -1, -2))
    curve = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    if closed:
        return curve.reshape(-1, 2)
    return np.concatenate([curve[1:-2].reshape(-1, 2), p[-2:-1]])


def fractal(
    rng: np.random.Generator, size: tuple[int, int], cells: float = 4, octaves: int = 4
) -> np.ndarray:
    """Cloud-like noise of shape (height, width), float32, about -1…1; `cells` a shorter side."""
    width, height = size
    out = np.zeros((height, width), np.float32)
    unit = min(size) / cells
    for octave in range(octaves):
        grid = (max(2, round(height / unit) + 1), max(2, round(width / unit) + 1))
        if grid[0] > height or grid[1] > width:
            break
        values = rng.uniform(-1, 1, grid).astype(np.float32)
        out += np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)) / (
            1.7**octave
        )
        unit /= 2
    return out * 0.7


# ------------------------------------------------------------------------------------------- pen


class Pen:
    """Draws shapes of the unit frame on a transparent picture: a colour and a mask image.

    Where nothing was drawn the colour is black, so the reduced colour is already multiplied with
    the reduced mask and lies on a background without a fringe.
    """

    def __init__(self, size: tuple[int, int], matrix: np.ndarray, centre: tuple[float, float]):
        self.colour = Image.new("RGB", size)
        self.mask = Image.new("L", size)
        self.matrix, self.centre = matrix, centre
        self.unit = math.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))
        self._bounded = False

    def _pixels(self, points: np.ndarray) -> list[float]:
        (a, b), (c, d) = self.matrix
        x, y = points[:, 0], points[:, 1]
        placed = np.stack([a * x + b * y + self.centre[0], c * x + d * y + self.centre[1]], 1)
        return placed.ravel().tolist()

    def shape(self, points: np.ndarray, colour: Colour, alpha: float = 1.0) -> None:
        """A filled outline; with alpha under 1 it only stains what is there."""
        pixels = self._pixels(points)
        ImageDraw.Draw(self.colour, "RGBA").polygon(pixels, fill=ink(colour, alpha))
        if alpha >= 1 and not self._bounded:
            ImageDraw.Draw(self.mask).polygon(pixels, fill=255)

    def soft(self, points: np.ndarray, colour: Colour, lift: float = 0.25, steps: int = 6) -> None:
        """A filled outline that looks vaulted: dark at its edge, lighter to its middle."""
        middle = points.mean(0)
        for step in range(steps):
            t = step / (steps - 1)
            self.shape(
                middle + (points - middle) * (1 - 0.8 * t), shade(colour, lift * (t * 2 - 1))
            )

    def line(
        self, points: list | np.ndarray, colour: Colour, width: float, alpha: float = 1.0
    ) -> None:
        """A line of `width` in units of the frame; with alpha under 1 it only stains."""
        pixels = self._pixels(np.asarray(points, float))
        thick = max(1, round(width * self.unit))
        joint = "curve" if thick > 3 else None
        ImageDraw.Draw(self.colour, "RGBA").line(
            pixels, fill=ink(colour, alpha), width=thick, joint=joint
        )
        if alpha >= 1 and not self._bounded:
            ImageDraw.Draw(self.mask).line(pixels, fill=255, width=thick, joint=joint)

    @contextmanager
    def inside(self, points: np.ndarray) -> Iterator[None]:
        """What is drawn in this block shows only within the outline."""
        outline = Image.new("L", self.mask.size)
        ImageDraw.Draw(outline).polygon(self._pixels(points), fill=255)
        below, was_bounded = self.colour, self._bounded
        self.colour, self._bounded = below.copy(), True
        try:
            yield
        finally:
            below.paste(self.colour, mask=outline)
            self.colour, self._bounded = below, was_bounded


# ------------------------------------------------------------------------------------- the genera
# Colour, size, pose and blemishes vary alike in all species of a genus; what tells the species
# apart is one detail, named in SPECIES.

BOLDNESS = (0.32, 0.75)

PETALS = [(0.0, 0.02, 0.97), (0.14, 0.75, 0.98), (0.92, 0.5, 0.95), (0.76, 0.5, 0.88)]
PETALS += [(0.02, 0.75, 0.9), (0.62, 0.5, 0.9)]


def faded(rng: np.random.Generator, ground: Colour, mark: Colour) -> Colour:
    """The colour of a mark on its ground: bold in some individuals, pale in others."""
    return blend(ground, mark, rng.uniform(*BOLDNESS))


def some_colour(rng: np.random.Generator, choices: list | np.ndarray) -> Colour:
    """One of the colours `choices` (hue, saturation, value), varied a little."""
    hue, saturation, value = map(float, choices[rng.integers(len(choices))])
    return hsv(
        hue + rng.normal(0, 0.02),
        float(np.clip(saturation + rng.normal(0, 0.06), 0, 1)),
        float(np.clip(value + rng.normal(0, 0.06), 0.2, 1)),
    )


def petal_outline(length: float, width: float, tip: str) -> np.ndarray:
    """A petal from the origin upwards; tip is round, pointed or notched."""
    t = np.linspace(0, 1, 16)
    half = {
        "round": np.sin(np.pi * t**1.7) ** 0.7,
        "notched": np.sin(np.pi * t**2.1) ** 0.65,
        "pointed": np.sin(np.pi * t**0.95) ** 0.9,
    }[tip]
    y = -length * t
    right = np.stack([width * half, y], 1)
    if tip == "notched":
        right = np.concatenate([right[:14], [[width * 0.42, -1.06 * length], [0, -0.84 * length]]])
    return np.concatenate([right, mirror(right)[::-1]])


def draw_flower(pen: Pen, rng: np.random.Generator, petals: int, width: float, tip: str) -> None:
    """A flower from above on its stem; species differ in the number and shape of petals."""
    colour = some_colour(rng, PETALS)
    green = hsv(rng.uniform(0.24, 0.36), 0.6, rng.uniform(0.3, 0.55))
    sway = rng.uniform(-0.5, 0.5)
    stem = smooth([(0, 0), (sway * 0.3, 0.8), (sway, 1.7), (sway * 1.4, 2.6)], closed=False)
    pen.line(stem, green, 0.09)
    if rng.random() < 0.7:
        leaf = rotate(petal_outline(0.8, 0.17, "pointed"), rng.choice([-1, 1]) * 1.2)
        pen.soft(leaf + (sway * 0.55, 1.25), green)
    start = rng.uniform(0, 2 * np.pi)
    width *= rng.uniform(0.88, 1.12)
    order = rng.permutation(petals)
    heart = rng.uniform(0.2, 0.29)
    blush = some_colour(rng, PETALS) if rng.random() < 0.35 else shade(colour, -0.25)
    for k in order:
        turn = start + 2 * np.pi * k / petals + rng.normal(0, 0.04)
        length = rng.normal(1.0, 0.04)
        outline = rotate(petal_outline(length, width, tip), turn)
        pen.soft(outline, shade(colour, rng.uniform(-0.15, 0.05)), 0.16)
        with pen.inside(outline):
            pen.shape(ellipse(0, 0, 0.5, 0.5), blush, 0.35)
            for vein in (-0.4, 0.0, 0.4):
                ray = np.array([(vein * width * 0.4, -0.2), (vein * width * 1.2, -length * 0.85)])
                pen.line(rotate(ray, turn), shade(colour, -0.45), 0.012, 0.4)
    core = hsv(rng.uniform(0.08, 0.15), 0.85, rng.uniform(0.5, 0.95))
    pen.soft(ellipse(0, 0, heart, heart), core, 0.3)
    for k in range(45):
        r, a = heart * 0.95 * math.sqrt((k + 0.5) / 45), k * 2.39996
        dot = ellipse(r * math.cos(a), r * math.sin(a), 0.022, 0.022, n=8)
        pen.shape(dot, shade(core, 0.3 if k % 2 else -0.4), 0.8)


def draw_leaf(pen: Pen, rng: np.random.Generator, edge: str, veins: str) -> None:
    """A leaf; species differ in its edge or its veins."""
    colour = some_colour(rng, [(0.3, 0.65, 0.5), (0.25, 0.65, 0.62), (0.17, 0.7, 0.7)])
    if rng.random() < 0.2:
        colour = some_colour(rng, [(0.07, 0.75, 0.7), (0.01, 0.65, 0.6)])
    t = np.linspace(0, 1, 121)
    broad = rng.uniform(0.46, 0.62)
    half = broad * np.sin(np.pi * t**0.8) ** 0.85
    teeth = rng.integers(11, 15)
    if edge == "sawn":
        half = half * (0.9 + 0.17 * ((t * teeth) % 1))
    elif edge == "lobed":
        lobes = rng.integers(4, 6)
        half = half * (0.88 + 0.2 * np.sin(2 * np.pi * (lobes * t + 0.6)))
    bend = rng.normal(0, 0.16)

    def bent(points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, float)
        return points + np.stack([bend * (points[:, 1] ** 2 - 0.4), 0 * points[:, 1]], 1)

    y = 0.95 - 1.95 * t
    right = np.stack([half, y], 1)
    outline = bent(np.concatenate([right, mirror(right)[::-1]]))
    pen.line(bent([(0, 0.9), (0.02, 1.15), (0.06, 1.45)]), shade(colour, -0.3), 0.05)
    pen.soft(outline, colour, 0.14)
    pale = faded(rng, colour, (0.95, 0.97, 0.75))
    with pen.inside(outline):
        side = bent(np.concatenate([right, [[0, -1.0], [0, 0.95]]]))
        pen.shape(side, (0, 0, 0), rng.uniform(0.06, 0.2))
        for _ in range(rng.integers(0, 7)):
            x, h = rng.uniform(-0.5, 0.5), rng.uniform(-0.8, 0.8)
            r = rng.uniform(0.02, 0.07)
            pen.shape(ellipse(x, h, r, r * rng.uniform(0.6, 1.4)), (0.4, 0.25, 0.1), 0.6)
        for sign in (-1, 1):
            if veins == "side":
                for k in range(8):
                    low = 0.72 - k * 0.2
                    path = [(0, low), (sign * 0.3, low - 0.2), (sign * 0.65, low - 0.5)]
                    pen.line(bent(smooth(path, False)), pale, 0.024, 0.75)
            else:
                for k in (0.3, 0.55, 0.8):
                    arc = np.stack([sign * half * k, y], 1)
                    pen.line(bent(arc), pale, 0.024, 0.75)
        pen.line(bent([(0, 0.95), (0, 0), (0, -0.98)]), pale, 0.045, 0.9)


def draw_beetle(pen: Pen, rng: np.random.Generator, pattern: str) -> None:
    """A beetle from above; species differ in the marks on its wing cases."""
    back = some_colour(
        rng,
        numbers("0.01 0.85 0.8, 0.08 0.9 0.9, 0.36 0.75 0.5, 0.6 0.7 0.55, 0.12 0.8 0.85"),
    )
    dark = shade(hsv(rng.uniform(0, 1), 0.3, 0.16), rng.uniform(-0.3, 0.05))
    for sign in (-1, 1):
        for k, (start, reach) in enumerate([(-0.4, -0.55), (-0.1, 0.0), (0.2, 0.65)]):
            wave = rng.normal(0, 0.07)
            knee = (sign * 0.78, start + reach * 0.35 - 0.12 + wave)
            foot = (sign * (1.0 - 0.08 * k), start + reach * 1.1 + wave)
            pen.line([(sign * 0.3, start), knee, foot], dark, 0.055)
        feeler = [
            (sign * 0.12, -0.9),
            (sign * 0.3, -1.2),
            (sign * (0.5 + rng.normal(0, 0.06)), -1.3),
        ]
        pen.line(smooth(feeler, False), dark, 0.03)
    pen.soft(ellipse(0, -0.86, 0.24, 0.2), dark, 0.12)
    pen.soft(ellipse(0, -0.58, 0.42, 0.25), blend(dark, back, rng.choice([0.0, 0.0, 0.6])), 0.2)
    long = rng.uniform(0.72, 0.86)
    wings = ellipse(0, 0.2, rng.uniform(0.55, 0.64), long, n=60)
    pen.soft(wings, back, 0.22, 8)
    spot = rng.uniform(0.75, 1.05)
    mark = faded(rng, back, dark)
    with pen.inside(wings):
        for sign in (-1, 1):
            if pattern == "two":
                pen.shape(ellipse(sign * 0.31, 0.1, 0.17 * spot, 0.2 * spot), mark)
            elif pattern == "many":
                for x, y in numbers(
                    "0.16 -0.28, 0.42 -0.1, 0.2 0.12, 0.42 0.36, 0.18 0.56, 0.12 0.84"
                ):
                    jitter = rng.normal(0, 0.015, 2)
                    pen.shape(
                        ellipse(sign * x + jitter[0], y + jitter[1], 0.085 * spot, 0.09 * spot),
                        mark,
                    )
            elif pattern == "stripes":
                for x in (0.16, 0.35, 0.53):
                    stripe = smooth(
                        [(sign * x, -0.45), (sign * x * 1.12, 0.2), (sign * x * 0.9, 0.95)], False
                    )
                    pen.line(stripe, mark, 0.075 * spot)
            else:
                for y in (-0.12, 0.42):
                    band = smooth([(0, y), (sign * 0.3, y - 0.09), (sign * 0.7, y + 0.05)], False)
                    pen.line(band, mark, 0.2 * spot)
        pen.line([(0, -0.6), (0, 1.1)], shade(dark, -0.3), 0.03)
        glint = rng.uniform(-0.4, 0.4)
        pen.shape(ellipse(glint, -0.1, 0.1, 0.28, 0.3 * np.sign(glint)), (1, 1, 1), 0.28)
        pen.shape(ellipse(glint, -0.14, 0.05, 0.15, 0.3 * np.sign(glint)), (1, 1, 1), 0.45)


def draw_butterfly(pen: Pen, rng: np.random.Generator, pattern: str) -> None:
    """A butterfly from above; species differ in the marks on its wings."""
    colour = some_colour(
        rng,
        numbers("0.08 0.85 0.95, 0.14 0.65 0.97, 0.58 0.6 0.85, 0.03 0.75 0.8, 0.1 0.25 0.95"),
    )
    dark = hsv(rng.uniform(0, 0.12), 0.5, rng.uniform(0.1, 0.22))
    fore = smooth(
        [(0.04, -0.12), (0.35, -0.66), (0.93, -0.86), (0.98, -0.5), (0.72, 0.0), (0.06, 0.08)]
    )
    hind = [(0.04, 0.0), (0.58, 0.0), (0.8, 0.28), (0.64, 0.68), (0.34, 0.74), (0.07, 0.38)]
    if pattern == "tails":
        hind = hind[:3] + [
            (0.66, 0.6),
            (0.62, 1.02),
            (0.53, 1.0),
            (0.48, 0.7),
            (0.28, 0.7),
            hind[-1],
        ]
    hind = smooth(hind)
    folds = rng.uniform(0.72, 1.0, 2)
    if rng.random() < 0.3:
        folds[rng.integers(2)] *= 0.6
    edge = rng.uniform(0.85, 1.15)
    rim = 0.15 if pattern == "rim" else rng.uniform(0.05, 0.12)
    striped = rng.random() < 0.5
    white = faded(rng, colour, (0.97, 0.96, 0.9))
    pupil = faded(rng, colour, dark)
    for sign, fold in zip((-1, 1), folds, strict=True):

        def put(points: np.ndarray, sign: int = sign, fold: float = fold) -> np.ndarray:
            return np.asarray(points, float) * (sign * fold, 1.0)

        for wing, root in ((hind, (0.1, 0.15)), (fore, (0.08, -0.05))):
            outline = put(wing)
            pen.soft(outline, colour, 0.12)
            with pen.inside(outline):
                pen.shape(ellipse(0, 0, 0.4, 0.4), shade(colour, -0.35), 0.45)
                for goal in wing[::4]:
                    pen.line(put([root, goal]), dark, 0.016, 0.6)
                pen.line(np.concatenate([outline, outline[:1]]), dark, rim * 2 * edge)
                if pattern == "rim":
                    middle = wing.mean(0)
                    for goal in wing[8:36:3]:
                        x, y = middle + (goal - middle) * 0.87
                        pen.shape(put(ellipse(x, y, 0.03, 0.03, n=12)), white)
                elif pattern == "eyes":
                    x, y = (0.68, -0.48) if wing is fore else (0.46, 0.38)
                    for r, c in [
                        (0.16, shade(colour, 0.4)),
                        (0.12, pupil),
                        (0.05, blend(pupil, (0.35, 0.5, 0.85), 0.5)),
                    ]:
                        pen.shape(put(ellipse(x, y, r * edge, r * edge)), c)
                    pen.shape(put(ellipse(x - 0.03, y - 0.03, 0.02, 0.02)), white)
                elif pattern == "band":
                    path = [(0.78, -0.85), (0.55, -0.3), (0.42, 0.2), (0.3, 0.75)]
                    pen.line(put(smooth(path, False)), white, 0.11 * edge)
                if striped:
                    for x in (0.3, 0.5, 0.7):
                        pen.line(put([(x, -0.9), (x * 0.75, -0.05)]), dark, 0.03 * edge, 0.6)
    for y, r, h in [(0.28, 0.06, 0.32), (-0.08, 0.075, 0.17), (-0.28, 0.06, 0.07)]:
        pen.soft(ellipse(0, y, r, h), dark, 0.2)
    for sign in (-1, 1):
        feeler = smooth([(sign * 0.02, -0.32), (sign * 0.12, -0.6), (sign * 0.26, -0.8)], False)
        pen.line(feeler, dark, 0.022)
        pen.shape(ellipse(sign * 0.26, -0.8, 0.03, 0.03, n=12), dark)


def draw_mushroom(pen: Pen, rng: np.random.Generator, pattern: str) -> None:
    """A mushroom from the side; species differ in its cap or stem."""
    colour = some_colour(
        rng,
        numbers("0.0 0.8 0.75, 0.06 0.7 0.7, 0.08 0.5 0.5, 0.11 0.55 0.8, 0.95 0.4 0.55"),
    )
    flesh = hsv(rng.uniform(0.08, 0.13), rng.uniform(0.08, 0.25), rng.uniform(0.8, 0.95))
    lean, thick = rng.normal(0, 0.12), rng.uniform(0.14, 0.22)
    foot = thick * rng.uniform(1.1, 1.6)
    stem = smooth(
        [
            (-thick, -0.3),
            (thick, -0.3),
            (thick + lean * 0.5, 0.4),
            (foot + lean, 1.0),
            (-foot + lean, 1.0),
            (-thick + lean * 0.5, 0.4),
        ]
    )
    pen.soft(stem, flesh, 0.18)
    with pen.inside(stem):
        for x in rng.uniform(-0.3, 0.3, 9):
            pen.line([(x, -0.2), (x + lean, 1.1)], shade(flesh, -0.4), 0.015, 0.35)
    tall, wide = rng.uniform(0.62, 0.82), rng.uniform(0.82, 1.0)
    pen.soft(ellipse(0, -0.18, wide * 0.94, 0.2), shade(flesh, -0.25), 0.1)
    for x in np.linspace(-0.9, 0.9, 27):
        pen.line(
            [(x * 0.2, -0.2), (x * wide, -0.18 + 0.18 * math.sqrt(1 - x * x))],
            shade(flesh, -0.55),
            0.014,
            0.7,
        )
    if pattern == "skirt":
        skirt = smooth(
            [
                (-thick * 1.1, 0.12),
                (thick * 1.1, 0.12),
                (thick * 2.0, 0.4),
                (0, 0.48),
                (-thick * 2.0, 0.4),
            ]
        )
        pen.soft(skirt, shade(flesh, 0.2), 0.2)
    cap = smooth(
        [
            (-wide, -0.16),
            (-wide * 0.86, -0.18 - tall * 0.55),
            (-wide * 0.4, -0.18 - tall * 0.95),
            (wide * 0.4, -0.18 - tall * 0.95),
            (wide * 0.86, -0.18 - tall * 0.55),
            (wide, -0.16),
            (wide * 0.5, -0.08),
            (-wide * 0.5, -0.08),
        ]
    )
    pen.soft(cap, colour, 0.22, 8)
    mark = faded(rng, colour, shade(colour, -0.7))
    wart = faded(rng, colour, shade(flesh, 0.4))
    with pen.inside(cap):
        if pattern == "dots":
            for _ in range(17):
                x, y = rng.uniform(-wide, wide), rng.uniform(-tall - 0.2, -0.15)
                r = rng.uniform(0.04, 0.095)
                pen.soft(ellipse(x, y, r * (1 - 0.4 * abs(x)), r * 0.85, n=14), wart, 0.12, 3)
        elif pattern == "rings":
            for k in (0.42, 0.72, 1.0):
                arc = ellipse(0, -0.18 - tall * (1.0 - k * 0.35), wide * k, tall * 0.55 * k)
                pen.line(np.concatenate([arc, arc[:1]]), mark, 0.085)
        elif pattern == "rays":
            for x in np.linspace(-1.1, 1.1, 19):
                pen.line([(x * 0.25, -0.35 - tall * 0.5), (x * wide, 0)], mark, 0.035)
        pen.shape(ellipse(-0.3 * wide, -0.2 - tall * 0.65, 0.22, 0.1, -0.4), (1, 1, 1), 0.22)


def draw_fish(pen: Pen, rng: np.random.Generator, pattern: str) -> None:
    """A fish from the side; species differ in marks or tail."""
    colour = some_colour(
        rng,
        numbers("0.09 0.8 0.95, 0.15 0.6 0.95, 0.55 0.55 0.8, 0.0 0.6 0.85, 0.58 0.15 0.8"),
    )
    dark = some_colour(rng, [(0.62, 0.5, 0.25), (0.05, 0.5, 0.2), (0.0, 0.0, 0.12)])
    dark = faded(rng, colour, dark)
    deep = rng.uniform(0.42, 0.54)
    body = smooth(
        [
            (-0.98, 0.04),
            (-0.7, -deep * 0.66),
            (-0.15, -deep),
            (0.4, -deep * 0.62),
            (0.78, -0.12),
            (0.78, 0.12),
            (0.4, deep * 0.55),
            (-0.15, deep * 0.92),
            (-0.7, deep * 0.62),
        ]
    )
    fin = shade(colour, -0.18)
    notch = 0.92 if pattern == "fork" else 1.1
    far = 1.42 if pattern == "fork" else 1.25
    tail = smooth(
        [
            (0.72, -0.1),
            (1.0, -0.3),
            (far, -0.5),
            (notch + 0.05, 0.0),
            (far, 0.5),
            (1.0, 0.3),
            (0.72, 0.1),
        ]
    )
    top = smooth(
        [
            (-0.45, -deep * 0.8),
            (-0.2, -deep * 1.55),
            (0.3, -deep * 1.3),
            (0.5, -deep * 0.5),
            (0, -deep * 0.6),
        ]
    )
    low = smooth([(-0.1, deep * 0.7), (0.12, deep * 1.45), (0.4, deep * 1.1), (0.42, deep * 0.4)])
    for part in (tail, top, low):
        pen.soft(part, fin, 0.15)
        root = np.array([0.3, 0.0])
        with pen.inside(part):
            for goal in part[::3]:
                pen.line([root, goal], shade(fin, -0.45), 0.014, 0.6)
    pen.soft(body, colour, 0.15, 8)
    strength = rng.uniform(0.85, 1.15)
    with pen.inside(body):
        pen.shape(ellipse(-0.1, deep, 0.95, deep * 0.75), (1, 1, 1), 0.28)
        for row in range(7):
            for x in np.arange(-0.4, 0.8, 0.13):
                y = (row - 3) * 0.14
                scale = ellipse(x + (row % 2) * 0.065, y, 0.075, 0.075, n=12)[8:13]
                pen.line(scale, shade(colour, -0.5), 0.012, 0.4)
        if pattern == "bars":
            for x in (-0.42, -0.1, 0.22, 0.53):
                bar = smooth([(x, -0.7), (x + 0.06, 0), (x, 0.7)], False)
                pen.line(bar, dark, 0.12 * strength)
        elif pattern == "stripe":
            pen.line(smooth([(-1, 0.02), (-0.3, -0.07), (0.9, 0.0)], False), dark, 0.15 * strength)
        elif pattern == "spots":
            for k in range(26):
                x, y = -0.5 + 1.25 * ((k * 0.618) % 1), rng.uniform(-0.5, 0.45)
                pen.shape(ellipse(x, y, 0.055 * strength, 0.055 * strength, n=14), dark)
        pen.line(
            smooth([(-0.55, -0.3), (-0.46, 0.0), (-0.55, 0.28)], False),
            shade(colour, -0.5),
            0.03,
            0.7,
        )
    side = smooth([(-0.3, 0.08), (-0.05, 0.0), (0.05, 0.2), (-0.15, 0.26)])
    pen.soft(side, shade(fin, 0.1), 0.15)
    pen.shape(ellipse(-0.72, -0.08, 0.1, 0.1), (0.97, 0.95, 0.85))
    pen.shape(ellipse(-0.73, -0.08, 0.06, 0.06), (0.03, 0.03, 0.05))
    pen.shape(ellipse(-0.75, -0.1, 0.02, 0.02, n=8), (1, 1, 1))
    pen.line([(-0.98, 0.1), (-0.86, 0.14)], shade(colour, -0.6), 0.025)


def draw_feather(pen: Pen, rng: np.random.Generator, pattern: str) -> None:
    """A feather; species differ in its marks."""
    colour = some_colour(
        rng,
        numbers("0.08 0.3 0.75, 0.1 0.12 0.88, 0.58 0.4 0.7, 0.06 0.55 0.6, 0.35 0.3 0.55"),
    )
    dark = shade(blend(colour, (0.12, 0.09, 0.08), 0.85), rng.uniform(-0.2, 0.1))
    dark = faded(rng, colour, dark)
    bend = rng.choice([-1, 1]) * rng.uniform(0.05, 0.3)

    def bent(points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, float)
        return points + np.stack([bend * (points[:, 1] ** 2 - 0.3), 0 * points[:, 1]], 1)

    t = np.linspace(0, 1, 80)
    y = 0.75 - 1.8 * t
    sides = []
    for sign, broad in ((1, rng.uniform(0.27, 0.34)), (-1, rng.uniform(0.2, 0.28))):
        half = broad * np.clip(np.sin(np.pi * (0.06 + 0.94 * t) ** 0.75), 0, 1) ** 0.6
        for cleft in rng.uniform(0.1, 0.9, rng.integers(1, 4)):
            half = half * (1 - 0.55 * np.exp(-(((t - cleft) / 0.012) ** 2)))
        sides.append(np.stack([sign * half, y], 1))
    outline = bent(np.concatenate([sides[0], sides[1][::-1]]))
    pen.line(bent([(0, 0.6), (0, 0.9), (0, 1.2)]), (0.9, 0.86, 0.75), 0.05)
    for _ in range(14):
        x, h = rng.choice([-1, 1]) * rng.uniform(0.15, 0.3), rng.uniform(0.55, 0.85)
        pen.line(
            bent(smooth([(0, h), (x * 0.6, h - 0.05), (x, h - 0.02 + rng.normal(0, 0.05))], False)),
            shade(colour, 0.45),
            0.016,
        )
    pen.soft(outline, colour, 0.12)
    with pen.inside(outline):
        if pattern == "bars":
            for h in np.arange(-0.95, 0.7, 0.23):
                for sign in (-1, 1):
                    pen.line(bent([(0, h + 0.08), (sign * 0.4, h - 0.1)]), dark, 0.095)
        elif pattern == "eye":
            for r, c in [
                (0.27, shade(colour, 0.5)),
                (0.21, dark),
                (0.13, blend(dark, (0.1, 0.45, 0.6), 0.5)),
                (0.06, dark),
            ]:
                pen.shape(bent(ellipse(0.0, -0.62, r, r * 1.25)), c)
        elif pattern == "tip":
            pen.shape(bent(ellipse(0, -1.1, 0.6, 0.52)), dark)
        else:
            for k in range(13):
                h = 0.6 - 0.125 * k
                for sign in (-1, 1):
                    x = sign * rng.uniform(0.1, 0.2)
                    pen.shape(bent(ellipse(x, h, 0.045, 0.05, n=12)), dark)
        for h in np.linspace(-1.1, 1.0, 64):
            for sign in (-1, 1):
                pen.line(bent([(0, h), (sign * 0.36, h - 0.2)]), shade(colour, -0.5), 0.009, 0.28)
        pen.line(bent([(0, 0.9), (0, 0.3), (0, -0.3), (0, -1.0)]), (0.93, 0.9, 0.8), 0.03, 0.9)


def draw_shell(pen: Pen, rng: np.random.Generator, pattern: str) -> None:
    """A fan-shaped shell; species differ in its marks."""
    colour = some_colour(
        rng,
        numbers("0.04 0.4 0.9, 0.09 0.3 0.92, 0.95 0.3 0.85, 0.1 0.1 0.93, 0.75 0.2 0.75"),
    )
    dark = shade(blend(colour, (0.5, 0.2, 0.12), 0.65), -0.1)
    dark = faded(rng, colour, dark)
    ribs = int(rng.integers(9, 13))
    spread = rng.uniform(1.05, 1.2)
    a = np.linspace(-spread, spread, 160)
    hinge = np.array([0.0, 0.85])

    def at(angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
        fall = radius * (1 - 0.16 * np.abs(angle) ** 1.6)
        return hinge + np.stack([fall * np.sin(angle), -fall * np.cos(angle)], -1)

    wave = 1 + 0.025 * np.abs(np.sin((a / spread + 1) * ribs * np.pi / 2))
    outline = np.concatenate([at(a, 1.75 * wave), [hinge + (0.16, 0.05), hinge + (-0.16, 0.05)]])
    ears = np.array([(-0.5, 0.95), (-0.42, 0.5), (0.42, 0.5), (0.5, 0.95), (0.0, 1.0)])
    pen.soft(ears, shade(colour, -0.12), 0.15)
    pen.soft(outline, colour, 0.16, 8)
    edges = np.linspace(-spread, spread, ribs + 1)
    with pen.inside(outline):
        if pattern == "rays":
            for k in range(ribs):
                if k % 2:
                    fan = np.concatenate(
                        [[hinge], at(np.linspace(edges[k], edges[k + 1], 6), np.full(6, 1.9))]
                    )
                    pen.shape(fan, dark, 0.8)
        elif pattern == "rings":
            for radius in (0.65, 0.98, 1.28, 1.55):
                pen.line(at(a, np.full(160, radius * rng.normal(1, 0.012))), dark, 0.13, 0.8)
        elif pattern == "zigzag":
            for radius in (0.75, 1.12, 1.48):
                peaks = np.linspace(-spread, spread, 2 * ribs + 1)
                saw = np.where(np.arange(2 * ribs + 1) % 2, 0.14, -0.1)
                pen.line(at(peaks, radius + saw), dark, 0.085, 0.85)
        else:
            for angle in (edges[:-1] + edges[1:]) / 2:
                for radius in np.arange(0.6, 1.75, 0.24):
                    x, y = at(angle, radius + rng.normal(0, 0.04))
                    r = 0.04 + 0.02 * radius
                    pen.shape(ellipse(x, y, r, r, n=14), dark, 0.85)
        for angle in edges:
            path = at(np.full(12, angle), np.linspace(0, 1.9, 12))
            pen.line(path, shade(colour, -0.55), 0.035, 0.55)
            pen.line(path + (0.035, 0), (1, 1, 1), 0.025, 0.4)
        for radius in np.linspace(0.5, 1.7, 7):
            pen.line(at(a, np.full(160, radius)), shade(colour, -0.4), 0.012, 0.35)


def draw_cactus(pen: Pen, rng: np.random.Generator, pattern: str) -> None:
    """A cactus; species differ in spines, ribs or bloom."""
    colour = some_colour(
        rng, [(0.33, 0.5, 0.5), (0.28, 0.5, 0.55), (0.4, 0.35, 0.5), (0.25, 0.35, 0.6)]
    )
    wide, tall = rng.uniform(0.62, 0.82), rng.uniform(0.75, 0.95)
    potted = rng.random() < 0.5
    body = ellipse(0, -0.1, wide, tall, n=60)
    if potted:
        clay = hsv(rng.uniform(0.02, 0.08), rng.uniform(0.4, 0.7), rng.uniform(0.5, 0.8))
        pen.soft(np.array([(-0.6, 0.5), (0.6, 0.5), (0.46, 1.25), (-0.46, 1.25)]), clay, 0.15)
    pen.soft(body, colour, 0.2, 8)
    ribs = int(rng.integers(8, 11))
    pale = hsv(rng.uniform(0.08, 0.16), rng.uniform(0.05, 0.3), 0.95)
    mark = faded(rng, colour, pale)
    rise = np.linspace(-1, 1, 24)
    shift = rng.uniform(0, 1)
    columns = np.sin((np.arange(ribs) + shift) / ribs * np.pi - np.pi / 2)
    height = -0.1 + tall * rise

    def column(x: float) -> np.ndarray:
        twist = 0.45 * rise if pattern == "twist" else 0.0
        angle = np.arcsin(x) + twist
        hidden = np.clip(angle, -np.pi / 2, np.pi / 2)
        return np.stack([wide * np.sin(hidden) * np.sqrt(np.clip(1 - rise**2, 0, 1)), height], 1)

    more = columns
    if pattern == "twist":
        more = np.concatenate([columns, [-1.0, 1.0, -0.97, 0.97]])
    with pen.inside(body):
        for x in more:
            path = column(float(x))
            pen.line(path, shade(colour, -0.5), 0.05, 0.75)
            pen.line(path + (0.05, 0), shade(colour, 0.45), 0.03, 0.5)
        if pattern == "stars":
            middles = np.sin((np.arange(ribs) + shift + 0.5) / ribs * np.pi - np.pi / 2)
            for x in middles:
                for px, py in column(float(x))[3:-2:4]:
                    pen.shape(ellipse(px, py, 0.05, 0.05, n=12), mark)
        if pattern == "belts":
            for h in np.arange(-0.8, 0.8, 0.3):
                arc = smooth([(-1, h - 0.1), (0, h + 0.06), (1, h - 0.1)], False)
                pen.line(arc, mark, 0.085)
    for x in columns:
        for px, py in column(float(x))[2:-1:3]:
            for angle in rng.uniform(0, 2 * np.pi, 3):
                end = (px + 0.1 * math.cos(angle), py + 0.1 * math.sin(angle))
                pen.line([(px, py), end], pale, 0.012)
    if potted:
        pen.soft(
            np.array([(-0.68, 0.52), (0.68, 0.52), (0.66, 0.74), (-0.66, 0.74)]),
            shade(clay, 0.08),
            0.12,
        )
    bloom = some_colour(rng, [(0.92, 0.6, 0.95), (0.14, 0.7, 0.98), (0.02, 0.75, 0.95)])
    if pattern == "crown":
        spots = [
            (x, -0.1 - tall * math.sqrt(1 - (x / wide) ** 2) * 0.93)
            for x in np.linspace(-0.36, 0.36, 5)
        ]
    else:
        spots = []
    for x, y in spots:
        for k in range(7):
            outline = rotate(petal_outline(0.19, 0.055, "pointed"), 2 * np.pi * k / 7)
            pen.soft(outline + (x, y), bloom, 0.15, 3)
        pen.shape(ellipse(x, y, 0.045, 0.045, n=10), (0.98, 0.85, 0.3))


class Genus(NamedTuple):
    """A group of look-alike species: how it is drawn, how large, where, what tells them apart."""

    name: str
    draw: Callable
    reach: float
    habitats: tuple[str, ...]
    species: tuple[tuple[str, dict], ...]


GENERA: tuple[Genus, ...] = (
    Genus(
        "butterfly",
        draw_butterfly,
        1.0,
        ("bokeh", "meadow", "foliage"),
        (
            ("eyed butterfly", {"pattern": "eyes"}),
            ("dark-rimmed butterfly", {"pattern": "rim"}),
            ("swallow-tailed butterfly", {"pattern": "tails"}),
            ("white-banded butterfly", {"pattern": "band"}),
        ),
    ),
    Genus(
        "flower",
        draw_flower,
        0.95,
        ("meadow", "bokeh", "foliage"),
        (
            ("five-petalled flower", {"petals": 5, "width": 0.5, "tip": "round"}),
            ("notched flower", {"petals": 6, "width": 0.42, "tip": "notched"}),
            ("pointed flower", {"petals": 8, "width": 0.27, "tip": "pointed"}),
            ("many-petalled flower", {"petals": 15, "width": 0.17, "tip": "round"}),
        ),
    ),
    Genus(
        "beetle",
        draw_beetle,
        0.9,
        ("soil", "foliage", "bark"),
        (
            ("two-spotted beetle", {"pattern": "two"}),
            ("many-spotted beetle", {"pattern": "many"}),
            ("striped beetle", {"pattern": "stripes"}),
            ("banded beetle", {"pattern": "bands"}),
        ),
    ),
    Genus(
        "fish",
        draw_fish,
        0.95,
        ("water", "water", "reef"),
        (
            ("barred fish", {"pattern": "bars"}),
            ("one-striped fish", {"pattern": "stripe"}),
            ("spotted fish", {"pattern": "spots"}),
            ("fork-tailed fish", {"pattern": "fork"}),
        ),
    ),
    Genus(
        "mushroom",
        draw_mushroom,
        1.05,
        ("litter", "soil", "meadow"),
        (
            ("dotted mushroom", {"pattern": "dots"}),
            ("ringed mushroom", {"pattern": "rings"}),
            ("skirted mushroom", {"pattern": "skirt"}),
            ("rayed mushroom", {"pattern": "rays"}),
        ),
    ),
    Genus(
        "leaf",
        draw_leaf,
        1.1,
        ("bark", "soil", "bokeh"),
        (
            ("smooth-edged leaf", {"edge": "smooth", "veins": "side"}),
            ("saw-edged leaf", {"edge": "sawn", "veins": "side"}),
            ("lobed leaf", {"edge": "lobed", "veins": "side"}),
            ("arc-veined leaf", {"edge": "smooth", "veins": "arcs"}),
        ),
    ),
    Genus(
        "shell",
        draw_shell,
        0.95,
        ("sand", "sand", "reef"),
        (
            ("rayed shell", {"pattern": "rays"}),
            ("ringed shell", {"pattern": "rings"}),
            ("zigzag shell", {"pattern": "zigzag"}),
            ("speckled shell", {"pattern": "spots"}),
        ),
    ),
    Genus(
        "feather",
        draw_feather,
        1.3,
        ("sand", "bark", "litter"),
        (
            ("barred feather", {"pattern": "bars"}),
            ("eyed feather", {"pattern": "eye"}),
            ("dark-tipped feather", {"pattern": "tip"}),
            ("flecked feather", {"pattern": "flecks"}),
        ),
    ),
    Genus(
        "cactus",
        draw_cactus,
        0.95,
        ("sand", "soil", "bokeh"),
        (
            ("starry cactus", {"pattern": "stars"}),
            ("twisted cactus", {"pattern": "twist"}),
            ("crowned cactus", {"pattern": "crown"}),
            ("belted cactus", {"pattern": "belts"}),
        ),
    ),
)


# ------------------------------------------------------------------------------------ backgrounds
# Each takes (rng, size, late) and gives (height, width, 3) float32 in 0…1. `late` is the other
# season, of the test pictures: autumn and winter in place of spring and summer.


def _mix(low: Colour, high: Colour, share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)[..., None].astype(np.float32)
    return np.float32(low) * (1 - share) + np.float32(high) * share


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


def _canvas(values: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))


def _plant(rng: np.random.Generator, late: bool) -> Colour:
    if late:
        return hsv(rng.uniform(0.03, 0.15), rng.uniform(0.3, 0.75), rng.uniform(0.35, 0.8))
    return hsv(rng.uniform(0.19, 0.37), rng.uniform(0.35, 0.7), rng.uniform(0.35, 0.8))


def bokeh(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Blurred lights and plants far away."""
    first, second = _plant(rng, late), _plant(rng, late)
    image = _canvas(_mix(shade(first, -0.35), second, fractal(rng, size, 1.5, 2) + 0.5))
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.integers(8, 26)):
        x, y = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        r = min(size) * rng.uniform(0.03, 0.13)
        light = shade(_plant(rng, late), rng.uniform(0.1, 0.6))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=ink(light, rng.uniform(0.15, 0.5)))
    return _array(image.filter(ImageFilter.GaussianBlur(min(size) * rng.uniform(0.008, 0.035))))


def meadow(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Grass and flowers."""
    w, h = size
    image = _canvas(
        _mix(
            shade(_plant(rng, late), -0.5),
            shade(_plant(rng, late), 0.0),
            fractal(rng, size, 3) + 0.5,
        )
    )
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(130):
        x, y = rng.uniform(0, w), rng.uniform(h * 0.1, h * 1.2)
        lean, tall = rng.normal(0, 0.12) * h, rng.uniform(0.15, 0.5) * h
        blade = [x, y, x + lean * 0.4, y - tall * 0.6, x + lean, y - tall]
        draw.line(
            blade,
            ink(shade(_plant(rng, late), rng.uniform(-0.3, 0.2)), 0.8),
            max(1, round(min(size) * rng.uniform(0.005, 0.025))),
        )
    if rng.random() < 0.6:
        for _ in range(rng.integers(4, 18)):
            x, y, r = rng.uniform(0, w), rng.uniform(0, h), min(size) * rng.uniform(0.01, 0.04)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ink(some_colour(rng, PETALS), 0.85))
    return _array(image.filter(ImageFilter.GaussianBlur(min(size) * rng.uniform(0.004, 0.016))))


def foliage(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Leaves one over another."""
    image = Image.new("RGB", size, ink(shade(_plant(rng, late), -0.6))[:3])
    draw = ImageDraw.Draw(image, "RGBA")
    for k in range(60):
        length = min(size) * rng.uniform(0.15, 0.4)
        outline = rotate(
            petal_outline(length, length * rng.uniform(0.2, 0.36), "pointed"), rng.uniform(0, 6.3)
        )
        place = (rng.uniform(0, size[0]), rng.uniform(0, size[1]))
        colour = shade(_plant(rng, late), -0.45 + 0.5 * k / 60)
        draw.polygon((outline + place).ravel().tolist(), fill=ink(colour))
        rib = np.stack([outline[0], outline[15]]) + place
        draw.line(rib.ravel().tolist(), ink(shade(colour, 0.3), 0.6), 1)
    return _array(image.filter(ImageFilter.GaussianBlur(min(size) * rng.uniform(0.004, 0.02))))


def litter(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Fallen leaves on soil."""
    image = _canvas(soil(rng, size, late) * 0.7)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(45):
        length = min(size) * rng.uniform(0.12, 0.26)
        outline = rotate(
            petal_outline(length, length * rng.uniform(0.25, 0.45), "pointed"), rng.uniform(0, 6.3)
        )
        place = (rng.uniform(-9, size[0]), rng.uniform(0, size[1] + 9))
        colour = hsv(
            rng.uniform(0.02, 0.13), rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.55 + 0.25 * late)
        )
        draw.polygon((outline + place).ravel().tolist(), fill=ink(colour, 0.9))
        rib = np.stack([outline[0], outline[15]]) + place
        draw.line(rib.ravel().tolist(), ink(shade(colour, -0.5), 0.7), 1)
    return _array(image.filter(ImageFilter.GaussianBlur(min(size) * rng.uniform(0.003, 0.012))))


def soil(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Bare soil with stones."""
    hue, pale = (rng.uniform(0.04, 0.1), 0.0) if not late else (rng.uniform(0.0, 0.7), 0.25)
    dark = hsv(hue, rng.uniform(0.25, 0.5) - pale, rng.uniform(0.15, 0.3))
    light = hsv(hue, rng.uniform(0.25, 0.45) - pale, rng.uniform(0.4, 0.6) + pale)
    image = _canvas(_mix(dark, light, fractal(rng, size, 5, 5) * 0.6 + 0.5))
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.integers(5, 50)):
        x, y, r = (
            rng.uniform(0, size[0]),
            rng.uniform(0, size[1]),
            min(size) * rng.uniform(0.006, 0.03),
        )
        stone = shade(light, rng.uniform(-0.5, 0.3))
        draw.ellipse((x - r, y - r * 0.8 + 2, x + r, y + r + 2), fill=ink(dark, 0.7))
        draw.ellipse((x - r, y - r, x + r, y + r * 0.8), fill=ink(stone, 0.9))
    return _array(image)


def sand(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Sand with ripples."""
    hue = rng.uniform(0.07, 0.13) if not late else rng.uniform(0.5, 0.66)
    light = hsv(hue, rng.uniform(0.1, 0.35) * (0.4 if late else 1), rng.uniform(0.75, 0.95))
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32) / min(size)
    angle, waves = rng.uniform(0, 3.14), rng.uniform(15, 45)
    phase = waves * (x * math.cos(angle) + y * math.sin(angle)) + 3 * fractal(rng, size, 2, 3)
    share = 0.6 + 0.2 * np.sin(phase) * rng.uniform(0, 1) + 0.3 * fractal(rng, size, 4, 3)
    return _mix(shade(light, -0.45), light, share) + rng.normal(0, 0.03, (size[1], size[0], 1))


def bark(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """The bark of a tree."""
    hue = rng.uniform(0.04, 0.11)
    dark = hsv(hue, rng.uniform(0.2, 0.6) * (0.4 if late else 1), rng.uniform(0.2, 0.35))
    light = hsv(hue, rng.uniform(0.2, 0.5) * (0.4 if late else 1), rng.uniform(0.5, 0.8))
    w, h = size
    thin = fractal(rng, (max(8, w), max(8, h // 8)), 5, 5)
    grain = np.asarray(Image.fromarray(thin).resize((w, h), Image.Resampling.BICUBIC))
    share = 0.5 + 0.7 * grain
    for seam in np.arange(rng.uniform(0, 0.3), 1.0, rng.uniform(0.22, 0.5)):
        share[:, int(seam * w) : int(seam * w) + max(1, w // 90)] -= 0.6
    wood = _mix(dark, light, share)
    return (
        wood
        if rng.random() < 0.5
        else np.ascontiguousarray(
            np.asarray(_canvas(wood).transpose(Image.Transpose.ROTATE_90).resize(size), np.float32)
            / 255
        )
    )


def water(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Water with light from above."""
    hue = rng.uniform(0.5, 0.6) if not late else rng.uniform(0.3, 0.5)
    deep, clear = (
        hsv(hue, 0.8, rng.uniform(0.15, 0.4)),
        hsv(hue - 0.04, rng.uniform(0.3, 0.6), rng.uniform(0.6, 0.9)),
    )
    y = np.linspace(1, 0, size[1], dtype=np.float32)[:, None]
    ripple = 1 - np.abs(fractal(rng, size, 5, 3)) * 2.2
    values = (
        _mix(deep, clear, y * 0.8 + 0.25 * fractal(rng, size, 2, 3))
        + 0.22 * np.clip(ripple, 0, 1)[..., None] ** 3 * y[..., None]
    )
    image = _canvas(values)
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.integers(0, 14)):
        x, h, r = (
            rng.uniform(0, size[0]),
            rng.uniform(0, size[1]),
            min(size) * rng.uniform(0.008, 0.03),
        )
        draw.ellipse(
            (x - r, h - r, x + r, h + r), outline=(255, 255, 255, 140), fill=(255, 255, 255, 40)
        )
    return _array(image)


def reef(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Water with plants and stones."""
    image = _canvas(water(rng, size, late))
    draw = ImageDraw.Draw(image, "RGBA")
    w, h = size
    for _ in range(40):
        x, r = rng.uniform(0, w), min(size) * rng.uniform(0.03, 0.12)
        y = h * (1 - abs(rng.normal(0, 0.16)))
        colour = hsv(rng.uniform(0.8, 1.15), rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.7))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=ink(colour, 0.75))
        draw.ellipse(
            (x - r * 0.6, y - r * 0.8, x + r * 0.2, y - r * 0.1), fill=ink(shade(colour, 0.3), 0.4)
        )
    return _array(image.filter(ImageFilter.GaussianBlur(min(size) * rng.uniform(0.006, 0.02))))


def sky(rng: np.random.Generator, size: tuple[int, int], late: bool) -> np.ndarray:
    """Sky with clouds."""
    y = np.linspace(0, 1, size[1], dtype=np.float32)[:, None]
    if late:
        top, low = hsv(rng.uniform(0.6, 0.75), 0.35, 0.55), hsv(rng.uniform(0.02, 0.1), 0.4, 0.95)
    else:
        top, low = hsv(rng.uniform(0.55, 0.62), 0.65, 0.8), hsv(0.55, 0.2, 0.97)
    values = _mix(top, low, y + np.zeros((1, size[0]), np.float32))
    cloud = np.clip(fractal(rng, size, 2.5, 5) * 1.6 - rng.uniform(-0.2, 0.6), 0, 1)[..., None]
    return values * (1 - cloud) + cloud * np.float32((0.97, 0.96, 0.95))


BACKGROUNDS: dict[str, Callable] = {
    f.__name__: f for f in (bokeh, meadow, foliage, litter, soil, sand, bark, water, reef, sky)
}
ANYWHERE = ("bokeh", "meadow", "foliage", "litter", "soil", "sand", "bark", "sky")
LIFELESS = ("soil", "sand", "bark", "water", "sky")


# ---------------------------------------------------------------------------------------- camera


def _blurred(values: np.ndarray, radius: float) -> np.ndarray:
    image = Image.fromarray((values * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _lay(pen: Pen, ground: np.ndarray, rng: np.random.Generator, grounded: bool) -> np.ndarray:
    """What the pen drew, lit from one side, laid on the ground with its shadow."""
    height, width = ground.shape[:2]
    mask = np.asarray(pen.mask.reduce(SUPERSAMPLING), np.float32) / 255
    colour = np.asarray(pen.colour.reduce(SUPERSAMPLING), np.float32) / 255
    unit = pen.unit / SUPERSAMPLING
    angle = rng.uniform(np.pi * 1.1, np.pi * 1.9)
    lx, ly = math.cos(angle), math.sin(angle)
    vault = 0.5 * _blurred(mask, unit * 0.06) + 0.5 * _blurred(mask, unit * 0.25)
    gy, gx = np.gradient(vault)
    light = 1 - rng.uniform(0.5, 1.3) * unit * 0.35 * (gx * lx + gy * ly)
    light = light * (1 + rng.uniform(0.05, 0.35) * fractal(rng, (width, height), 10, 3))
    colour = colour * np.clip(light, 0.45, 1.5)[..., None]
    offset = unit * (rng.uniform(0.06, 0.2) if grounded else rng.uniform(0.2, 0.5))
    shadow = _blurred(mask, unit * (0.06 if grounded else 0.22))
    shadow = np.roll(shadow, (round(-ly * offset), round(-lx * offset)), (0, 1))
    ground = ground * (1 - rng.uniform(0.35, 0.65) * (1 if grounded else 0.4) * shadow)[..., None]
    return ground * (1 - mask[..., None]) + colour


def _blades(image: np.ndarray, rng: np.random.Generator, late: bool) -> np.ndarray:
    """Something out of focus in front of the subject: a blade, a twig, a leaf."""
    height, width = image.shape[:2]
    over, cover = Image.new("RGB", (width, height)), Image.new("L", (width, height))
    for _ in range(rng.integers(1, 4)):
        colour = shade(_plant(rng, late), rng.uniform(-0.5, 0.3))
        x = rng.uniform(0, width)
        thick = max(2, round(min(width, height) * rng.uniform(0.02, 0.075)))
        bow, lean = x + rng.normal(0, 0.1) * width, x + rng.normal(0, 0.3) * width
        path = smooth([(x, height + 9), (bow, height * 0.5), (lean, -9)], False).ravel().tolist()
        ImageDraw.Draw(over).line(path, ink(colour)[:3], thick + 14, joint="curve")
        ImageDraw.Draw(cover).line(path, 235, thick, joint="curve")
    cover = cover.filter(ImageFilter.GaussianBlur(min(width, height) * rng.uniform(0.004, 0.02)))
    alpha = _array(cover)[..., None]
    return image * (1 - alpha) + _array(over) * alpha


def _develop(image: np.ndarray, rng: np.random.Generator, late: bool) -> Image.Image:
    """Exposure, white balance, contrast, vignette, lens blur and grain."""
    height, width = image.shape[:2]
    image = np.clip(image, 0, 1) ** rng.uniform(0.6, 1.1)
    cast = rng.normal(0, 0.045, 3) + ((0.05, 0.0, -0.05) if late else (0, 0, 0))
    middle = image.mean()
    image = (image - middle) * rng.uniform(0.85, 1.25) + middle
    image = image * (1 + cast).astype(np.float32) * rng.uniform(0.9, 1.2)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    image = image * (1 - rng.uniform(0, 0.3) * (x * x + y * y) / 2)[..., None]
    photo = _canvas(image)
    haze = rng.exponential(0.25 if late else 0.5)
    photo = photo.filter(ImageFilter.GaussianBlur(min(1.6, haze) * min(width, height) / 192))
    grain = rng.normal(0, rng.uniform(0.005, 0.02 if late else 0.045), (height, width, 1))
    return _canvas(_array(photo) + grain.astype(np.float32))


def frame_size(rng: np.random.Generator, side: int) -> tuple[int, int]:
    """Width and height: the shorter side about `side` px, the longer up to half as much more."""
    short = round(side * rng.uniform(0.92, 1.12))
    long = round(short * rng.choice([1.0, 1.25, 4 / 3, 1.5], p=[0.2, 0.25, 0.35, 0.2]))
    return (long, short) if rng.random() < 0.65 else (short, long)


def draw_subject(
    rng: np.random.Generator, genus: int, species: int, side: int, late: bool
) -> Image.Image:
    """A photo-like RGB picture of one species.

    Parameters
    ----------
    rng
        All that varies is drawn from it.
    genus, species
        Positions in `GENERA` and in its `species`.
    side
        About the length of the shorter side, in pixels.
    late
        Take the other season, closer and sharper, as test images are.
    """
    size = frame_size(rng, side)
    kind = GENERA[genus]
    places = kind.habitats if rng.random() < 0.75 else ANYWHERE
    place = places[rng.integers(len(places))]
    ground = BACKGROUNDS[place](rng, size, late).astype(np.float32)
    grounded = place in ("soil", "sand", "bark", "litter")
    reach = kind.reach * min(size) * (rng.uniform(0.26, 0.44) if late else rng.uniform(0.18, 0.42))
    upright = kind.name in ("mushroom", "cactus", "fish", "flower")
    turn = rng.normal(0, 0.22) if upright else rng.uniform(0, 2 * np.pi)
    matrix = _pose(rng, turn, reach * SUPERSAMPLING)
    roam = 0.06 if late else 0.13
    centre = [s * SUPERSAMPLING * (0.5 + rng.uniform(-roam, roam)) for s in size]
    pen = Pen((size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING), matrix, centre)
    kind.draw(pen, rng, **kind.species[species][1])
    image = _lay(pen, ground, rng, grounded)
    if rng.random() < (0.2 if late else 0.33):
        image = _blades(image, rng, late)
    return _develop(image, rng, late)


def _pose(rng: np.random.Generator, turn: float, reach: float) -> np.ndarray:
    """A 2 x 2 matrix: squeezed as if seen at a slant, turned, perhaps mirrored, scaled."""
    slant, flip = rng.uniform(0, np.pi), rng.choice([-1.0, 1.0])

    def turned(a: float) -> np.ndarray:
        return np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])

    squeeze = np.diag([1.0, rng.uniform(0.72, 1.0)])
    return reach * turned(slant) @ squeeze @ turned(-slant) @ turned(turn) @ np.diag([flip, 1.0])


# ---------------------------------------------------------------------- images of nothing living

WORDS = (
    "GARDEN GUIDE NATURE MARKET SUMMER CLUB PRICE LIST NEW FIELD NOTES VOLUME ORDER TODAY MUSEUM "
    "SERIES ATLAS HABITAT SPECIES REPORT TABLE FIGURE RANGE WINGS PETALS SHORE FOREST SALE FREE "
    "POSTER CALENDAR STAMP LABEL SEEDS FARM OFFICE TRAVEL INDEX"
).split()


def _words(rng: np.random.Generator, n: int) -> str:
    return " ".join(WORDS[k] for k in rng.integers(0, len(WORDS), n))


def _flat(rng: np.random.Generator) -> Colour:
    return hsv(rng.uniform(0, 1), rng.uniform(0.1, 0.9), rng.uniform(0.3, 1.0))


def _paper(rng: np.random.Generator) -> Colour:
    return hsv(rng.uniform(0, 1), rng.uniform(0, 0.15), rng.uniform(0.88, 1.0))


def _text(
    draw: ImageDraw.ImageDraw, x: float, y: float, text: str, high: float, colour: Colour
) -> None:
    draw.text((x, y), text, fill=ink(colour), font=ImageFont.load_default(max(6, high)))


def _poster(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    image = Image.new("RGB", (w, h), ink(_flat(rng) if rng.random() < 0.6 else _paper(rng))[:3])
    draw = ImageDraw.Draw(image, "RGBA")
    front = _flat(rng)
    for _ in range(rng.integers(1, 4)):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0.1, 0.5) * min(w, h)
        if rng.random() < 0.5:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ink(_flat(rng), 0.6))
        else:
            draw.rectangle((x - r, y - r / 2, x + r, y + r / 2), fill=ink(_flat(rng), 0.6))
    y = h * rng.uniform(0.04, 0.2)
    while y < h * 0.9:
        high = min(w, h) * rng.choice([0.05, 0.07, 0.12, 0.2], p=[0.3, 0.3, 0.25, 0.15])
        _text(draw, w * rng.uniform(0.04, 0.12), y, _words(rng, rng.integers(1, 5)), high, front)
        y += high * 1.5
    return image


def _chart(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    image = Image.new("RGB", (w, h), ink(_paper(rng))[:3])
    draw = ImageDraw.Draw(image, "RGBA")
    grey = (0.25, 0.25, 0.28)
    left, low, top, right = w * 0.1, h * 0.87, h * 0.17, w * 0.94
    _text(draw, left, h * 0.04, _words(rng, 3), h * 0.07, grey)
    thick = max(1, w // 150)
    kind = rng.integers(4)
    if kind == 3:
        r, start = min(w, h) * 0.33, rng.uniform(0, 360)
        for share in rng.dirichlet(np.ones(rng.integers(3, 7))):
            box = (w * 0.42 - r, h * 0.55 - r, w * 0.42 + r, h * 0.55 + r)
            draw.pieslice(box, start, start + 360 * share, fill=ink(_flat(rng)))
            start += 360 * share
        for k in range(4):
            y = h * (0.3 + 0.12 * k)
            draw.rectangle((w * 0.8, y, w * 0.84, y + h * 0.04), fill=ink(_flat(rng)))
            _text(draw, w * 0.86, y, _words(rng, 1), h * 0.045, grey)
        return image
    for y in np.linspace(top, low, 6):
        draw.line((left, y, right, y), ink(grey, 0.25), thick)
        _text(draw, w * 0.02, y - h * 0.025, str(rng.integers(1, 99)), h * 0.045, grey)
    draw.line((left, top, left, low, right, low), ink(grey), thick)
    n = int(rng.integers(4, 12))
    xs = np.linspace(left, right, n + 1)
    if kind == 0:
        colours = [_flat(rng)] * n if rng.random() < 0.5 else [_flat(rng) for _ in range(n)]
        for x, value, colour in zip(xs, rng.uniform(0.1, 1, n), colours, strict=False):
            end = x + 0.7 * (xs[1] - xs[0])
            draw.rectangle((x + 3, low - value * (low - top), end, low), fill=ink(colour))
    elif kind == 1:
        for _ in range(rng.integers(1, 4)):
            values = np.clip(0.5 + np.cumsum(rng.normal(0, 0.13, n + 1)), 0.02, 0.98)
            line = np.stack([xs, low - values * (low - top)], 1).ravel().tolist()
            draw.line(line, ink(_flat(rng)), thick * 3)
    else:
        for _ in range(rng.integers(30, 90)):
            x, y, r = rng.uniform(left, right), rng.uniform(top, low), w * 0.008
            draw.ellipse((x - r, y - r, x + r, y + r), fill=ink(_flat(rng), 0.8))
    return image


def _logo(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    image = Image.new("RGB", (w, h), ink(_paper(rng) if rng.random() < 0.7 else _flat(rng))[:3])
    draw = ImageDraw.Draw(image, "RGBA")
    first, second = _flat(rng), _flat(rng)
    cx, cy, r = w / 2, h * 0.42, min(w, h) * rng.uniform(0.18, 0.3)
    kind = rng.integers(4)
    if kind == 0:
        for k, colour in enumerate((first, _paper(rng), second)):
            q = r * (1 - 0.28 * k)
            draw.ellipse((cx - q, cy - q, cx + q, cy + q), fill=ink(colour))
    elif kind == 1:
        n = int(rng.integers(3, 8))
        star = ellipse(0, 0, r, r, rng.uniform(0, 3), 2 * n) * np.tile([[1.0], [0.5]], (n, 1))
        draw.polygon((star + (cx, cy)).ravel().tolist(), fill=ink(first))
    elif kind == 2:
        draw.rounded_rectangle((cx - r, cy - r, cx + r, cy + r), r * 0.3, fill=ink(first))
        _text(draw, cx - r * 0.45, cy - r * 0.75, _words(rng, 1)[0], r * 1.3, _paper(rng))
    else:
        for k in range(3):
            arc = (cx - r, cy - r + k * r * 0.5, cx + r, cy + r + k * r * 0.5)
            draw.arc(arc, 200, 340, fill=ink(first if k % 2 else second), width=max(2, w // 22))
    name = _words(rng, 1)
    _text(draw, w / 2 - len(name) * h * 0.035, h * 0.76, name, h * 0.11, first)
    return image


def _map(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    land = fractal(rng, (w, h), 3, 4) + 0.15
    sea, plain = (0.65, 0.82, 0.93), hsv(rng.uniform(0.08, 0.3), 0.2, 0.92)
    image = np.where((land > 0)[..., None], np.float32(plain), np.float32(sea))
    image[(np.abs(land % 0.2 - 0.1) < 0.012) & (land > 0)] = shade(plain, -0.25)
    image[np.abs(land) < 0.02] = (0.35, 0.45, 0.55)
    picture = _canvas(image)
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(rng.integers(2, 6)):
        stops = np.stack([np.linspace(-0.1, 1.1, 5), rng.uniform(-0.2, 1.2, 5)], 1)
        road = smooth((stops if rng.random() < 0.5 else stops[:, ::-1]) * (w, h), False)
        road = road.ravel().tolist()
        draw.line(road, ink((0.9, 0.55, 0.2)), max(2, w // 90))
    for _ in range(rng.integers(4, 10)):
        x, y, r = rng.uniform(0, w * 0.8), rng.uniform(0, h * 0.9), w * 0.009
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(170, 30, 30))
        _text(draw, x + 2 * r, y - 3 * r, _words(rng, 1).title(), h * 0.05, (0.15, 0.15, 0.2))
    return picture


def _table(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    image = Image.new("RGB", (w, h), ink(_paper(rng))[:3])
    draw = ImageDraw.Draw(image)
    rows, columns = int(rng.integers(6, 14)), int(rng.integers(2, 6))
    head, grey = _flat(rng), (0.2, 0.2, 0.22)
    for row in range(rows):
        y = h * row / rows
        fill = head if row == 0 else (_paper(rng) if row % 2 else (0.9, 0.92, 0.95))
        draw.rectangle((0, y, w, y + h / rows), fill=ink(fill))
        for column in range(columns):
            x = w * column / columns
            word = _words(rng, 1) if column == 0 or row == 0 else f"{rng.uniform(0, 999):.1f}"
            _text(draw, x + w * 0.01, y + h / rows * 0.2, word.lower(), h / rows * 0.55, grey)
            draw.line((x, 0, x, h), ink((0.7, 0.7, 0.72)), 1)
    return image


def _weave(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    y, x = np.mgrid[:h, :w].astype(np.float32) / min(w, h)
    first, second, n = _flat(rng), _flat(rng), rng.uniform(4, 14)
    kind = rng.integers(4)
    if kind == 0:
        share = 0.5 * (np.sin(x * n * 6.3) > 0) + 0.5 * (np.sin(y * n * 6.3) > 0)
    elif kind == 1:
        share = (np.sin((x + y * rng.choice([-1, 0, 1])) * n * 6.3) > rng.uniform(-0.6, 0.6)) * 1.0
    elif kind == 2:
        row = np.floor(y * n)
        seam = ((x * n * 0.5 + 0.5 * (row % 2)) % 1 < 0.06) | ((y * n) % 1 < 0.1)
        share = np.where(seam, 1.0, 0.25 * fractal(rng, (w, h), 12, 3))
        first, second = hsv(rng.uniform(0, 0.08), 0.55, 0.6), (0.75, 0.73, 0.7)
    else:
        share = fractal(rng, (w, h), rng.uniform(2, 20), 5) * rng.uniform(0.3, 1) + 0.5
    cloth = _mix(first, second, np.asarray(share, np.float32))
    return _canvas(cloth * (0.92 + 0.1 * fractal(rng, (w, h), 30, 2))[..., None])


def _skyline(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    image = _canvas(sky(rng, (w, h), rng.random() < 0.4))
    draw = ImageDraw.Draw(image)
    for depth in range(3):
        x = -w * 0.05
        base = shade(hsv(rng.uniform(0.5, 0.7), 0.15, 0.75), -0.3 * depth)
        while x < w:
            wide, tall = w * rng.uniform(0.07, 0.2), h * rng.uniform(0.2, 0.75) * (1 - 0.2 * depth)
            wall = blend(base, _flat(rng), 0.12)
            draw.rectangle((x, h - tall, x + wide, h), fill=ink(wall))
            step = max(4, w // 32)
            for wx in np.arange(x + step * 0.4, x + wide - step * 0.5, step):
                for wy in np.arange(h - tall + step * 0.5, h, step * 1.3):
                    pane = shade(wall, rng.choice([-0.45, -0.3, 0.5]))
                    draw.rectangle((wx, wy, wx + step * 0.5, wy + step * 0.7), fill=ink(pane))
            x += wide * rng.uniform(0.9, 1.3)
    return image


def _circuit(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    board = hsv(rng.choice([0.38, 0.6, 0.45]), 0.7, rng.uniform(0.25, 0.45))
    image = Image.new("RGB", (w, h), ink(board)[:3])
    draw = ImageDraw.Draw(image)
    step = max(5, min(w, h) // 26)
    for _ in range(45):
        x, y = (int(rng.integers(0, s // step)) * step for s in (w, h))
        path = [(x, y)]
        for _ in range(rng.integers(1, 5)):
            dx, dy = [(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1)][rng.integers(5)]
            x, y = x + dx * step * int(rng.integers(1, 6)), y + dy * step * int(rng.integers(1, 6))
            path.append((x, y))
        draw.line(path, ink(shade(board, 0.3)), max(1, step // 4))
        for x, y in (path[0], path[-1]):
            draw.ellipse(
                (x - step / 3, y - step / 3, x + step / 3, y + step / 3), fill=(205, 185, 110)
            )
    for _ in range(rng.integers(2, 6)):
        x, y, a, b = rng.uniform(0, w * 0.8), rng.uniform(0, h * 0.8), *rng.uniform(2, 7, 2) * step
        draw.rectangle((x - step / 2, y + 2, x + a + step / 2, y + b - 2), fill=(180, 180, 185))
        draw.rectangle((x, y, x + a, y + b), fill=(30, 30, 34))
        _text(draw, x + 3, y + b / 3, str(rng.integers(100, 9999)), step, (0.7, 0.7, 0.7))
    return image


def _thing(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    """A made thing (package, mug, ball, bottle) photographed like the living ones."""
    place = LIFELESS[rng.integers(len(LIFELESS))]
    ground = BACKGROUNDS[place](rng, (w, h), rng.random() < 0.5).astype(np.float32)
    matrix = _pose(rng, rng.normal(0, 0.25), min(w, h) * rng.uniform(0.26, 0.44) * SUPERSAMPLING)
    centre = [s * SUPERSAMPLING * (0.5 + rng.uniform(-0.1, 0.1)) for s in (w, h)]
    pen = Pen((w * SUPERSAMPLING, h * SUPERSAMPLING), matrix, centre)
    colour, other = _flat(rng), _flat(rng)
    kind = rng.integers(4)
    if kind == 0:
        front = np.array([(-0.8, -0.7), (0.5, -0.7), (0.5, 0.9), (-0.8, 0.9)])
        pen.shape(
            np.array([(0.5, -0.7), (0.9, -0.95), (0.9, 0.6), (0.5, 0.9)]), shade(colour, -0.4)
        )
        pen.shape(
            np.array([(-0.8, -0.7), (-0.35, -0.95), (0.9, -0.95), (0.5, -0.7)]), shade(colour, 0.35)
        )
        pen.shape(front, colour)
        pen.shape(np.array([(-0.8, -0.35), (0.5, -0.35), (0.5, 0.2), (-0.8, 0.2)]), other)
        pen.shape(ellipse(-0.15, -0.07, 0.3, 0.2), _paper(rng))
        for y in (0.4, 0.52, 0.64, 0.76):
            pen.line([(-0.65, y), (rng.uniform(-0.2, 0.4), y)], shade(colour, -0.6), 0.04)
    elif kind == 1:
        handle = ellipse(0.65, 0.05, 0.34, 0.4)
        pen.line(np.concatenate([handle, handle[:1]]), shade(colour, -0.2), 0.15)
        cup = np.array([(-0.7, -0.75), (0.65, -0.75), (0.58, 0.8), (-0.62, 0.8)])
        pen.soft(cup, colour, 0.12)
        pen.shape(ellipse(-0.02, -0.75, 0.68, 0.16), shade(colour, -0.45))
        pen.shape(ellipse(-0.02, -0.72, 0.6, 0.12), (0.25, 0.14, 0.08))
        pen.shape(np.array([(-0.68, -0.1), (0.62, -0.1), (0.6, 0.3), (-0.65, 0.3)]), other)
    elif kind == 2:
        ball = ellipse(0, 0, 0.85, 0.85, n=60)
        pen.soft(ball, colour, 0.2, 8)
        with pen.inside(ball):
            for k in range(3):
                a = rng.uniform(0, 3.14)
                arc = rotate(smooth([(-1, 0.3 * k), (0, 0.5 * k - 0.3), (1, 0.3 * k)], False), a)
                pen.line(arc, other, 0.14)
            pen.shape(ellipse(-0.3, -0.35, 0.2, 0.13), (1, 1, 1), 0.5)
    else:
        half = [(0.13, -1.1), (0.13, -0.6), (0.4, -0.3), (0.42, 1.0)]
        bottle = np.concatenate([half, mirror(np.array(half))[::-1]])
        pen.soft(bottle, colour, 0.15)
        pen.shape(np.array([(-0.16, -1.18), (0.16, -1.18), (0.16, -0.95), (-0.16, -0.95)]), other)
        pen.shape(np.array([(-0.42, 0.0), (0.42, 0.0), (0.42, 0.65), (-0.42, 0.65)]), _paper(rng))
        for y in (0.15, 0.3, 0.45):
            pen.line([(-0.3, y), (rng.uniform(0, 0.3), y)], other, 0.06)
    return _canvas(_lay(pen, ground, rng, True))


def _scene(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    place = LIFELESS[rng.integers(len(LIFELESS))]
    return _canvas(BACKGROUNDS[place](rng, (w, h), rng.random() < 0.5))


LIFELESS_PICTURES = (
    (_poster, _chart, _logo, _map, _table, _weave, _skyline, _circuit) + (_thing,) * 3 + (_scene,)
)


def draw_lifeless(rng: np.random.Generator, side: int) -> Image.Image:
    """An RGB image of nothing living, its shorter side about `side` px: text, chart, thing, …"""
    w, h = frame_size(rng, side)
    kind = LIFELESS_PICTURES[rng.integers(len(LIFELESS_PICTURES))]
    image = kind(rng, w, h)
    # Screens and prints are flat; some are photographed, and so are things and scenes.
    if kind in (_thing, _scene) or rng.random() < 0.4:
        return _develop(np.asarray(image, np.float32) / 255, rng, False)
    return image
