"""The reviewer of the benchmark of looks, on a table whose counts can be made by hand."""

import sys
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest

from fgvc_utils.contest.following import Copies

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import review_worth as worth

# image, given, true class (empty: it shows none), group, kind
IMAGES = [
    ("a", "rose", "lily", "a", "rose?"),
    ("b", "lily", "lily", "a", "lily?"),  # a copy of a
    ("c", "rose", "lily", "c", "rose?"),
    ("d", "rose", "", "d", "rose?"),
    ("e", "rose", "lily", "e", "rose?"),
    ("f", "rose", "", "f", "other"),
    ("g", "rose", "fern", "f", "other"),  # taken for a copy of f, wrongly
]
ORDER = list("abcdefg")


class InOrder:
    """Like cases in the order in which they are asked about."""

    def nearest(self, item, others):
        assert item not in others
        return others[:2]


def desk(**options):
    names = ["image_id", "given", "true", "group", "kind"]
    table = pd.DataFrame(IMAGES, columns=names).assign(split="train")
    by_id = table.set_index("image_id")
    if options.pop("with_copies", False):
        options["copies"] = Copies(table)
    return worth.Desk(by_id["given"], by_id["true"], by_id["kind"], **options)


def test_looks_alone_decide_what_is_looked_at():
    made = worth.session(desk(), ORDER, 3)
    assert made.answers == {"a": "lily", "b": "lily", "c": "lily"}
    assert (made.looks, made.wrong) == (3, 0)
    assert worth.session(desk(), ORDER, 99).looks == 7


def test_copies_are_passed_over_and_those_that_are_none_are_counted():
    made = worth.session(desk(with_copies=True), ORDER, 3)
    assert list(made.answers) == ["a", "b", "c", "d"] and made.looks == 3
    made = worth.session(desk(with_copies=True), ORDER, 99)
    assert (made.answers["g"], made.looks, made.wrong) == ("", 5, 1)


def test_like_cases_are_ticked_where_the_answer_is_the_same():
    made = worth.session(desk(with_copies=True, likes=InOrder()), ORDER, 1)
    # Offered are c and d; d shows nothing. The copy b is decided and not offered.
    assert made.answers == {"a": "lily", "b": "lily", "c": "lily"}
    made = worth.session(desk(with_copies=True, likes=InOrder()), ORDER, 2)
    assert list(made.answers) == ["a", "b", "c", "d"]


def rows():
    """Two sets of ten test images and three seeds; ours gets 1, 2 and 3 more right than nobody."""
    made = []
    for contest, right in (("demo", 5), ("web", 6)):
        for seed in range(3):
            base = {"contest": contest, "seed": seed, "f1": 0.0, "looks": 10, "decided": 12}
            base |= {"changed": 5, "wrong_copies": 0}
            for way in ("nobody", *worth.WAYS):
                count = right + (seed + 1) * (way == worth.OURS)
                row = {"way": way, "share": 0.0 if way == "nobody" else 0.05, "top1": count / 10}
                made.append(base | row | {"right": "1" * count + "0" * (10 - count)})
    return pd.DataFrame(made)


def test_gains_are_paired_by_contest_and_seed():
    means, pairs = worth.summary(rows()), worth.differences(rows())
    ours = means.loc[("demo", worth.OURS, 0.05)]
    # The half-width of .1, .2 and .3: 4.3027 × .1 / √3.
    assert (ours["gain"], ours["gain±"]) == pytest.approx((0.2, 0.24841), abs=1e-4)
    assert ours["changed/look"] == 0.5
    together = pairs.loc[("all", f"{worth.OURS} less {worth.RANDOM}", 0.05)]
    # Six differences: 2.5706 × .08944 / √6.
    assert (together["top1"], together["top1±"]) == pytest.approx((0.2, 0.09386), abs=1e-4)
    line = worth.closing(means, pairs)
    assert line["web"][worth.OURS]["0.05"]["gain"] == 0.2
    assert line["demo"][f"{worth.LIKES} less {worth.OURS}"]["0.05"]["top1"] == -0.2


def test_the_interval_over_images_takes_the_same_images_as_one():
    """On the web the seeds share their images: means 1, 2/3, 1/3 and seven times 0."""
    means = worth.summary(rows())
    for contest, variance in (("demo", 0.09 + 0.16 + 0.21), ("web", 9 * (1.5556 / 10 - 0.04))):
        low, high = means.loc[(contest, worth.OURS, 0.05), ["low", "high"]]
        assert low < 0.2 < high
        # Of a normal distribution; a bootstrap of ten images is near it.
        assert high - low == pytest.approx(2 * 1.96 * (variance / 90) ** 0.5, rel=0.15)
    same = worth.differences(rows()).loc[("all", f"{worth.COPIES} less {worth.OURS}", 0.05)]
    assert same["low"] < -0.2 < same["high"] < 0


def test_rows_that_are_there_are_not_made_again(tmp_path, monkeypatch):
    def contests(given):
        yield from [(name, seed) for name in given.contests for seed in given.seeds]

    def run(contest, shares, done):
        assert shares == (0.05,)
        calls.append((contest, len(done)))
        name, seed = contest
        yield from table[(table["contest"] == name) & (table["seed"] == seed)].to_dict("records")

    calls, table = [], rows()
    monkeypatch.setattr(worth, "run", run)
    monkeypatch.setattr(worth.benchmark, "contests", contests)
    given = Namespace(contests=["demo"], seeds=[1], shares=(0.05,), work=None)
    first = worth.all_rows(given, tmp_path)
    again = worth.all_rows(given, tmp_path)
    assert calls == [(("demo", 1), 0)] and first == again and len(first) == 1 + len(worth.WAYS)
    given.seeds = [1, 2]
    assert len(worth.all_rows(given, tmp_path)) == 2 * len(first)
    assert calls[1:] == [(("demo", 2), len(first))]
