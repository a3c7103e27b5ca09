"""Mutated files are used or refused by name; one that crashes or holds its process is found."""

import os
import signal
import time
from collections import Counter

import pytest
from faults import fuzz


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {"image": fuzz.whole_images(), **fuzz.whole_texts(folder)}


def test_some_dozens_of_mutated_files_are_each_used_or_listed(tmp_path):
    figures = fuzz.run(tmp_path, seed=7, inputs=72)
    assert figures["fuzz_inputs"] == 72 and figures["fuzz_unhandled"] == 0
    ends = Counter(figures["used"]) + Counter(figures["listed"])
    assert sum(ends.values()) == 72 and set(ends) == set(fuzz.SHARES)
    assert sum(figures["used"].values()) > 10 and sum(figures["listed"].values()) > 10
    assert not list(tmp_path.glob("0*")), "what ended well is not kept"


def test_what_is_mutated_is_whole_before(corpus, tmp_path):
    for kind, contents in corpus.items():
        for number, content in enumerate(contents):
            file = tmp_path / f"{number}-{kind}"
            file.write_bytes(content)
            # Real photos of the web are as they are; the others are all whole.
            if kind != "image" or number < 20:
                assert fuzz.take(kind, file) == "used", (kind, number)


def test_inputs_follow_from_the_seed_and_are_mutated_in_every_way(corpus):
    first = [fuzz.make_input(corpus, 3, number) for number in range(200)]
    assert first == [fuzz.make_input(corpus, 3, number) for number in range(200)]
    assert first != [fuzz.make_input(corpus, 4, number) for number in range(200)]
    used = {name for _, how in first for name in how.split(" + ")}
    assert used == {way.__name__ for way in fuzz.OF_IMAGES + fuzz.OF_TEXT}


def misbehave(kind, file):
    """Do to this process what the file's name says."""
    if file == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if file == "hang":
        time.sleep(600)
    if file == "hunger":
        bytearray(2 * fuzz.MEMORY_BYTES)
    if file == "raise":
        raise RuntimeError("from a library")
    return "used"


def test_a_crash_a_hang_hunger_and_a_strange_error_are_each_found_with_their_input(tmp_path):
    watched = fuzz.Watched(tmp_path, misbehave, limit=20)
    assert watched.take("image", "fine") == "used"
    assert watched.take("image", "crash") == "killed its process: exit code -11"
    assert watched.take("image", "hunger").startswith("MemoryError")
    assert watched.take("image", "raise") == "RuntimeError: from a library"
    watched.limit = 0.5
    assert watched.take("image", "hang") == "hung for 0.5 s"
    watched.close()


def test_an_error_that_does_not_name_its_file_counts_as_unhandled(tmp_path, monkeypatch):
    def nameless(*given):
        raise ValueError("something is wrong with something somewhere")

    monkeypatch.setattr(fuzz, "list_images", nameless)
    said = fuzz.take("listing.csv", tmp_path / "000001-listing.csv")
    assert said.startswith("an error that does not name the file: ValueError: something")
