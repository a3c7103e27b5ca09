"""02 and 03 are one notebook in two names."""

import copy

import twin_notebooks as twins


def test_02_is_03_but_for_stage_defaults_and_prose():
    found = twins.differences(twins.read(twins.SOURCE), twins.read(twins.COPY))
    assert not found, "\n".join([*found, "make them equal: python tests/support/twin_notebooks.py"])


def changed(change):
    """03 with one code cell changed, beside 02."""
    source = copy.deepcopy(twins.read(twins.SOURCE))
    change(twins.code_cells(source))
    return source, twins.read(twins.COPY)


def test_another_line_of_code_is_seen_and_taken_over():
    source, other = changed(lambda cells: cells[4]["source"].append("\nprint(none.sum())"))
    (found,) = twins.differences(source, other)
    assert found.startswith("code cell 5:")
    made = twins.brought_up_to_date(source, other)
    assert not twins.differences(source, made)
    assert [cell["id"] for cell in made["cells"]] == [cell["id"] for cell in other["cells"]]
    prose = [twins.text(c) for c in other["cells"] if c["cell_type"] == "markdown"]
    assert [twins.text(c) for c in made["cells"] if c["cell_type"] == "markdown"] == prose
    for number in (twins.PARAMETERS, twins.STAGE):
        assert twins.code_cells(made)[number] == twins.code_cells(other)[number]


def test_a_parameter_of_03_alone_is_no_difference_and_one_of_02_alone_is():
    source, other = changed(lambda cells: cells[1]["source"].append("\nnew: float = 0.1  # new"))
    assert not twins.differences(source, other)
    assert "'new'" in twins.differences(other, source)[0]


def test_brought_up_to_date_what_is_equal_stays():
    source, other = twins.read(twins.SOURCE), twins.read(twins.COPY)
    assert twins.brought_up_to_date(source, other) == other
