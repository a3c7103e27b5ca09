"""Score a finished run against the truth of its data set.

`python benchmarks/score_run.py RUN_DIR TRUTH_DIR [--submission FILE] [--report]` prints what the
cleaning left out and put right, by kind of noise and by stage, and the submission's top-1: of the
submission in force, the last line of submissions.csv, or of another file of the run. The last line
is JSON. `--report` adds the same figures to the run's report.json as section `score`.

This is outside the pipeline: nothing that cleans, trains, chooses or submits may read truth.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from fgvc_utils.answers.forms import from_data, read_file
from fgvc_utils.answers.names import ClassSpelling, spelt_classes
from fgvc_utils.answers.submission import current_submission
from fgvc_utils.contest.report import update_report
from fgvc_utils.contest.tables import classes_of, read_table
from fgvc_utils.core.files import read_json
from fgvc_utils.core.intervals import wilson

TABLE = "tables/04_lowq.parquet"
# What a submission may call an image, given the path in the truth.
NAMES = {
    "path": str,
    "name": lambda path: PurePosixPath(path).name,
    "stem": lambda path: PurePosixPath(path).stem,
}


def ratio(part: float, whole: float) -> float | None:
    """A share rounded to four places; None where there is nothing to take it of."""
    return round(float(part) / float(whole), 4) if whole else None


def read_csv(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV as text (`0012` and `NA` stay as they are) and check that it has the columns.

    Raises FileNotFoundError or ValueError naming the file and the column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: check the folder, or finish the run first")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a CSV file: {error}") from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"{path} lacks the column(s) {', '.join(missing)}; it has {list(frame)}")
    return frame


def read_truth(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a truth file; its paths are unique and there is at least one."""
    truth = read_csv(path, columns)
    if truth.empty:
        raise ValueError(f"{path} has no rows, so there is nothing to score against")
    twice = truth["path"][truth["path"].duplicated()]
    if len(twice):
        raise ValueError(f"{path}: path {twice.iloc[0]!r} is in more than one row")
    return truth


def read_by_form(run: Path, path: Path) -> pd.DataFrame | None:
    """Images and their likeliest classes, of a file whose form the run's report tells, else None.

    A submission may have no head line, several classes or probabilities, and be packed.
    """
    report = run / "report.json"
    told = read_json(report).get("40_submit", {}) if report.is_file() else {}
    if told.get("file") != path.name or "form" not in told or not path.is_file():
        return None
    spelling = ClassSpelling(*told["class_names"].values())
    classes = spelt_classes(classes_of(read_table(run / TABLE)), spelling)
    found = read_file(path, from_data(told["form"], classes))
    best = found.idxmax(axis=1) if told["form"]["form"] == "probabilities" else found[0]
    return pd.DataFrame({"image": found.index, "class": best.to_numpy()})


def read_submission(path: Path, truth: pd.DataFrame, run: Path) -> pd.Series:
    """The submitted class of each truth row, in its order.

    Where the report of the run does not tell its form, the first column names the image and the
    second one its class. Images are named by path, name or stem. Raises ValueError where
    no way fits all images, or an image is missing, unknown or repeated.
    """
    submission = read_by_form(run, path)
    submission = read_csv(path) if submission is None else submission
    if submission.shape[1] != 2:
        raise ValueError(f"{path} has the columns {list(submission)}, not an image and a class")
    image, label = submission.columns
    twice = submission[image][submission[image].duplicated()]
    if len(twice):
        raise ValueError(f"{path}: column {image} holds {twice.iloc[0]!r} more than once")
    given = set(submission[image])
    lacking = {}
    for name, call in NAMES.items():
        wanted = truth["path"].map(call)
        if wanted.is_unique:
            if set(wanted) == given:
                return wanted.map(submission.set_index(image)[label])
            lacking[name] = [value for value in wanted if value not in given]
    name, missing = min(lacking.items(), key=lambda item: len(item[1]))
    calls = set(truth["path"].map(NAMES[name]))
    strangers = sorted(given - calls)
    examples = [f"lacks {missing[0]!r}"] if missing else []
    examples += [f"has an unknown {strangers[0]!r}"] if strangers else []
    raise ValueError(
        f"{path}: column {image} fits the {len(truth)} test images neither by path, name nor stem; "
        f"by {name} it lacks {len(missing)} and has {len(strangers)} unknown: "
        f"it {' and '.join(examples)}"
    )


def join_truth(table: pd.DataFrame, truth: pd.DataFrame, name: Path) -> pd.DataFrame:
    """The table's train rows with the columns kind and true, matched by path one to one."""
    train = table[table["split"] == "train"]
    for left, right, what in (
        (set(truth["path"]), set(train["path"]), "lacks the train image"),
        (set(train["path"]), set(truth["path"]), "has a train image that the truth does not know,"),
    ):
        if left - right:
            raise ValueError(
                f"{name} {what} {sorted(left - right)[0]!r} ({len(left - right)} in all); "
                "is this the truth of the run's data set?"
            )
    rows = train.merge(truth[["path", "given", "kind", "true"]], on="path", suffixes=("", "_truth"))
    other = rows[rows["given"] != rows["given_truth"]]
    if len(other):
        raise ValueError(
            f"{name}: column given says {other['given'].iloc[0]!r} for {other['path'].iloc[0]!r}, "
            f"the truth {other['given_truth'].iloc[0]!r}; is this the truth of the run's data set?"
        )
    return rows


def score_cleaning(rows: pd.DataFrame) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """Figures of the cleaning, and two tables of them: by kind and by stage.

    Positive is an image whose kind is not ok; flagged is one that was left out or got another
    label. `rows` comes from `join_truth`.
    """
    rows = rows.assign(
        positive=rows["kind"] != "ok",
        dropped=rows["status"] == "drop",
        relabelled=(rows["status"] == "keep") & (rows["label"] != rows["given"]),
        right=rows["label"] == rows["true"],
    )
    flagged = rows["dropped"] | rows["relabelled"]
    hits = int((flagged & rows["positive"]).sum())
    by_kind = pd.DataFrame(
        [
            (kind, len(part), ratio(part["dropped"].sum(), len(part)))
            + (ratio(part["relabelled"].sum(), len(part)),)
            for kind, part in rows.groupby("kind")
        ],
        columns=["kind", "n", "left out", "relabelled"],
    )
    by_kind = by_kind.sort_values("n", ascending=False, kind="stable")
    by_stage = pd.DataFrame(
        [
            (stage, int(part["dropped"].sum()))
            + (ratio((part["dropped"] & part["positive"]).sum(), part["dropped"].sum()),)
            + (int(part["relabelled"].sum()),)
            + (ratio((part["relabelled"] & part["right"]).sum(), part["relabelled"].sum()),)
            for stage, part in rows[flagged].groupby("stage")
        ],
        columns=["stage", "left out", "precision", "relabelled", "now right"],
    )
    by_stage = by_stage.astype({"precision": float, "now right": float})
    kept = rows[~rows["dropped"]]
    figures = {
        "precision": ratio(hits, flagged.sum()),
        "recall": ratio(hits, rows["positive"].sum()),
        "f1": ratio(2 * hits, flagged.sum() + rows["positive"].sum()),
        "dropped": dict(zip(by_kind["kind"], by_kind["left out"], strict=True)),
        "kept": {"n": len(kept), "right": ratio(kept["right"].sum(), len(kept))},
    }
    return figures, by_kind, by_stage


def score_run(run: Path, truth: Path, submission: str = "") -> tuple[dict, str]:
    """The figures as plain data, and the same as text for people.

    `submission` is a file of the run's folder, or an absolute path; empty takes the one in force.

    Raises FileNotFoundError or ValueError that names the file and what is off.
    """
    test = read_truth(truth / "test.csv", ("path", "class"))
    train = read_truth(truth / "train.csv", ("path", "given", "kind", "true"))
    file = run / submission if submission else current_submission(run)
    answers = read_submission(file, test, run)
    rows = join_truth(read_table(run / TABLE), train, run / TABLE)
    hits, n = int((answers == test["class"]).sum()), len(test)
    low, high = wilson(hits, n)
    cleaning, by_kind, by_stage = score_cleaning(rows)
    figures = {
        "top1": round(hits / n, 4),
        "n_test": n,
        "top1_interval": [round(low, 4), round(high, 4)],
        "submission": file.name,
        **cleaning,
    }
    shown = {"index": False, "na_rep": "-", "float_format": "{:.3f}".format}
    text = "\n".join(
        [
            f"Cleaning of {len(rows)} train images, shares by kind",
            by_kind.to_string(**shown),
            "",
            by_stage.to_string(**shown) if len(by_stage) else "No image was flagged.",
            "",
            "flagged against not ok: precision {precision}, recall {recall}, F1 {f1}".format(
                **figures
            ),
            "kept: {n} images, share with the right label {right}".format(**figures["kept"]),
            f"{file.name}: top-1 {hits / n:.4f} on {n} test images, "
            f"95 % interval {low:.4f} to {high:.4f}",
        ]
    )
    return figures, text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 when scored, 2 with a message when something is off."""
    parser = argparse.ArgumentParser(description="Score a run against the truth of its data set.")
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="such as outputs/demo")
    parser.add_argument("truth", type=Path, metavar="TRUTH_DIR", help="such as data/demo/truth")
    parser.add_argument(
        "--submission", default="", metavar="FILE", help="such as submission-002.csv of RUN_DIR"
    )
    parser.add_argument("--report", action="store_true", help="add the score to report.json")
    given = parser.parse_args(arguments)
    try:
        figures, text = score_run(given.run, given.truth, given.submission)
        if given.report:
            update_report(given.run / "report.json", "score", figures)
    except (FileNotFoundError, ValueError) as error:
        print(f"score_run: {error}", file=sys.stderr)
        return 2
    print(text)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
