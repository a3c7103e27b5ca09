"""The drawn contest of `make demo`.

May import: core.
"""
