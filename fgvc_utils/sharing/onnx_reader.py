"""Answer photos by an ONNX file that `fgvc export … onnx` wrote; needs no other part of the kit.

    python predict_onnx.py MODEL.onnx PHOTO … > answers.csv

It needs numpy, Pillow and onnxruntime. Classes and preparation are in the file's metadata.
"""

import csv
import json
import sys

import numpy as np
from PIL import Image, ImageOps

LONGEST = 30
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def opened(file):
    """Open an ONNX file: the session, and its metadata by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=onnxruntime.get_available_providers())
    return session, session.get_modelmeta().custom_metadata_map


def picture(photo, metadata):
    """Prepare a photo as at test: uint8 (3, size, size)."""
    with Image.open(photo) as image:
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image.convert("RGB")
    # Of a strip the middle counts.
    short = min(image.size)
    image = cut(image, min(image.width, LONGEST * short), min(image.height, LONGEST * short))
    first = int(metadata["first_shrink_to"])
    if short > first:
        image = shorter_side(image, first, Image.Resampling.BICUBIC, round)
    side, size = int(metadata["resize_to"]), int(metadata["size"])
    how = INTERPOLATIONS[metadata["interpolation"]]
    if json.loads(metadata["squash"]):
        image = image.resize((side, side), how)
    else:
        image = shorter_side(image, side, how, int)
    return np.asarray(cut(image, size, size)).transpose(2, 0, 1)


def shorter_side(image, side, how, whole):
    """Resize an image so that its shorter side is `side`."""
    scale = side / min(image.size)
    sides = [side if each == min(image.size) else whole(each * scale) for each in image.size]
    return image.resize([max(1, each) for each in sides], how)


def cut(image, width, height):
    """Cut the middle out of an image."""
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def answers(file, photos, top=5):
    """Give for each photo its likeliest classes with their probabilities, or why it has none."""
    session, metadata = opened(file)
    classes = json.loads(metadata["classes"])
    for photo in photos:
        try:
            shown = picture(photo, metadata)[None]
        except (OSError, ValueError, SyntaxError) as error:
            yield photo, [], f"{type(error).__name__} {error}"
            continue
        [probabilities] = session.run(None, {"pictures": np.ascontiguousarray(shown)})
        best = np.argsort(-probabilities[0], kind="stable")[:top]
        yield photo, [(classes[each], float(probabilities[0][each])) for each in best], ""


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out = csv.writer(sys.stdout)
    for photo, best, error in answers(sys.argv[1], sys.argv[2:]):
        out.writerow([photo, *(value for pair in best for value in pair), error])
