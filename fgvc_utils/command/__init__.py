"""The command `fgvc`, and the folder that it lays out for a contest of one's own.

May import: core, contest, demo and pipeline.

Counts in no digest.
"""
