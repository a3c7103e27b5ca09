"""The parts of the check of a contest, a file for each kind of thing that is checked."""
