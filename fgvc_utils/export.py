"""`python -m fgvc_utils.export CONTEST`: a run's cleaned labels in the formats of other tools."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """\
examples:
  fgvc export params/demo.yaml                 every format, to outputs/demo/export/
  fgvc export demo csv imagefolder             two of them, of the run demo in outputs/
  fgvc export outputs/demo huggingface --pictures prepared --to /data/demo
  fgvc export outputs/demo onnx --model b4     a network with its classes and its preparation

without the command: python -m fgvc_utils.export in place of fgvc export

formats:
  csv          every image with its label, and by whom and why it was decided
  issues       train images in the columns of cleanlab's Datalab
  decisions    what people decided, every line and what is in force
  imagefolder  links to the kept images, a folder a class, for torchvision
  fiftyone     every image with what is known of it, for FiftyOne
  huggingface  Parquet files with the kept pictures, for Hugging Face datasets
  onnx         one network with its classes and its preparation; only where it is named
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="fgvc export",
        description="Write a run's cleaned labels in the formats of other tools.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("contest", help="a run's name, its folder or its contest file")
    found.add_argument("formats", nargs="*", help="see below; all but onnx where none is named")
    found.add_argument("--to", metavar="FOLDER", help="where to; default: export/ in the run")
    found.add_argument("--table", default="", help="the label table; default: the last one")
    found.add_argument(
        "--pictures",
        choices=("raw", "prepared"),
        default="raw",
        help="files as they came (default), or upright RGB JPEGs of one size from the cache",
    )
    found.add_argument("--copy", action="store_true", help="imagefolder: copies, no links")
    found.add_argument(
        "--fold", type=int, default=-1, metavar="N", help="fold N becomes the split validation"
    )
    found.add_argument(
        "--allow-formulas",
        action="store_true",
        help="CSV files keep texts that a spreadsheet would run as they are",
    )
    found.add_argument("--data-root", default="", help="where the raw images lie by now")
    found.add_argument("--model", default="", help="onnx: the model's name, as in models/")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Export what the command line asks for; returns the exit code."""
    asked = parser().parse_args(arguments)
    from fgvc_utils.core.output import exit_code

    return exit_code(lambda: _export(asked))


def _export(asked: argparse.Namespace) -> None:
    # Here, so that the help comes at once.
    from fgvc_utils.contest.parameters import ParameterError
    from fgvc_utils.sharing.exporting import export_run
    from fgvc_utils.sharing.pictures import Options
    from fgvc_utils.sharing.runs import find_run

    to = Path(asked.to).absolute() if asked.to else None
    labels = [name for name in asked.formats if name != "onnx"]
    run = find_run(asked.contest, asked.table, asked.data_root)
    if "onnx" in asked.formats:
        from fgvc_utils.sharing.network_file import export_network

        export_network(run, asked.model, to)
    elif asked.model:
        raise ParameterError("--model is for the format onnx: name that too")
    if labels or not asked.formats:
        options = Options(asked.pictures, asked.copy, asked.fold, asked.allow_formulas)
        export_run(run, labels, to, options)


if __name__ == "__main__":
    sys.exit(main())
