"""A Slurm of two nodes on this machine for the tests of a module."""

from collections.abc import Iterator

import pytest
import slurm


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.Cluster]:
    if reason := slurm.unavailable():
        pytest.skip(f"Slurm is NOT tested: {reason}")
    with slurm.cluster(tmp_path_factory.mktemp("slurm") / "s") as running:
        yield running
