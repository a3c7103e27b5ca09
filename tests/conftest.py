"""What holds for every test."""

import signal

import pytest
from small_candidates import photos, rows_of

from fgvc_utils.contest.journal import Journal

# A shell that starts the tests in the background may ignore interrupts for all that follows.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def one_thread():
    """As many threads as a rank has: their number changes the order in which floats are added."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished_contest(tmp_path_factory):
    """The tiny contest after one whole run, which takes minutes: to be copied, never changed."""
    from tiny_contest import make_contest, run_pipeline

    contest = make_contest(tmp_path_factory.mktemp("finished"))
    done = run_pipeline(contest)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return contest


@pytest.fixture
def journal(tmp_path):
    """An empty journal."""
    return Journal(tmp_path / "decisions" / "02_coarse.csv")


@pytest.fixture
def candidates(tmp_path):
    """Seven photos; see `small_candidates.photos`."""
    return photos(tmp_path)


@pytest.fixture
def rows(candidates):
    """The same photos as two rows."""
    return rows_of(candidates)
