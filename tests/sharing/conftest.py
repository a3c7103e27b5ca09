"""One small finished run for all tests of the wing, which must leave it as it is."""

import pytest
from small_run import lines_below, make_run

from fgvc_utils.sharing.runs import find_run


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """What names the run."""
    return make_run(tmp_path_factory.mktemp("sharing"))


@pytest.fixture
def run(made):
    """The finished run; what was there of it before is there afterwards, and no more."""
    before = lines_below(made.folder)
    yield find_run(made.folder, data_root=made.data_root)
    assert lines_below(made.folder) == before
