"""The one door to processes and devices: launches, ranks, progress.

May import: core.
"""
