"""Jobs and their results: what is asked of the ranks, and what they left.

May import: core, hardware, contest.
"""
