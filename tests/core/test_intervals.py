"""Wilson's interval against values known from elsewhere."""

import pytest

from fgvc_utils.core.intervals import wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # 0 of n: the upper bound is z² / (n + z²); all of n is its mirror image.
    [(0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (50, 100, 0.4038, 0.5962)],
)
def test_wilsons_interval_by_his_formula(hits, n, low, high):
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)
