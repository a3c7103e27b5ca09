"""`python -m fgvc_utils.predict outputs/<run> PHOTOS`: what a run's models say of new photos."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = """\
examples:
  fgvc predict outputs/demo holiday/ -o holiday.csv     all photos below a folder
  fgvc predict demo one.jpg two.heic                    to the terminal, by the run's name
  fgvc predict outputs/demo holiday/ -o b4.csv --model b4 --top 1

without the command: python -m fgvc_utils.predict in place of fgvc predict; in Python:
  from fgvc_utils.predict import predict
  table = predict("outputs/demo", "holiday/")

columns: photo; class, probability, class_2, probability_2 …; p_none, the probability that a photo
shows nothing of the contest's kind by the noise model of 01; shows_none, whether 01 would leave it
out; error, why a file has no answer. Every file found has a line.
"""
OTHERS = (".xlsx", ".xls", ".ods", ".parquet", ".json", ".tsv")


def predict(
    run: str | Path,
    photos: "str | Path | list[str | Path]",
    *,
    top: int = 5,
    model: str = "",
    device: str = "auto",
) -> "pd.DataFrame":
    """Answer photos as a run answers its test images.

    Parameters
    ----------
    run : str or Path
        The run's name in outputs/, its folder, such as outputs/demo, or its contest file.
    photos : str, Path or a list of them
        Photos and folders of photos.
    top : int
        How many classes are given for each photo.
    model : str
        One model that answers in place of the ensemble.
    device : str
        `cpu`, `cuda`, or `auto`: a GPU where there is one.

    Returns
    -------
    DataFrame
        See `sharing.predicting.predict_photos`, which also says what is raised.
    """
    from fgvc_utils.sharing.predicting import predict_photos
    from fgvc_utils.sharing.runs import find_run

    return predict_photos(find_run(run), photos, top=top, model=model, device=device)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="fgvc predict",
        description="Say what new photos show, by a finished run's ensemble or one of its models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("run", help="a run's name, its folder or its contest file")
    found.add_argument("photos", nargs="+", help="photos, or folders of photos at any depth")
    found.add_argument("-o", "--out", metavar="CSV", help="the file; without it to the terminal")
    found.add_argument("--top", type=int, default=5, metavar="K", help="classes a photo (5)")
    found.add_argument("--model", default="", help="one model, as in models/, for the ensemble")
    found.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    found.add_argument(
        "--allow-formulas",
        action="store_true",
        help="names that a spreadsheet would run stay as they are",
    )
    return found


def main(arguments: list[str] | None = None) -> int:
    """Predict what the command line asks for; returns the exit code."""
    asked = parser().parse_args(arguments)
    from fgvc_utils.core.output import exit_code

    return exit_code(lambda: _predict(asked))


def _predict(asked: argparse.Namespace) -> None:
    out = Path(asked.out).expanduser().absolute() if asked.out else None
    _check_out(out)
    # Here, so that the help and such errors come at once.
    from fgvc_utils.core.output import lasting
    from fgvc_utils.sharing.labels import write_csv
    from fgvc_utils.sharing.predicting import predict_photos
    from fgvc_utils.sharing.runs import find_run

    told = predict_photos(
        find_run(asked.run),
        asked.photos,
        top=asked.top,
        model=asked.model,
        device=asked.device,
        say=lambda line: print(line, file=sys.stderr),
    )
    if out:
        write_csv(told, out, formulas=asked.allow_formulas)
        print(f"{out}: {len(told)} lines", file=sys.stderr)
    else:
        lasting(1).write(told.to_csv(index=False, float_format="%.4f"))


def _check_out(out: Path | None) -> None:
    """Raise OSError or ValueError where the file could not be written after all the work."""
    import os

    from fgvc_utils.core.files import nearest_existing

    if out is None:
        return
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder: name a CSV file in it, by -o")
    if out.suffix.lower() in OTHERS:
        raise ValueError(f"{out}: the answers are written as CSV; give -o a name that ends in .csv")
    above = nearest_existing(out.parent)
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise PermissionError(f"{out} cannot be written: {above} is no folder that can")


if __name__ == "__main__":
    sys.exit(main())
