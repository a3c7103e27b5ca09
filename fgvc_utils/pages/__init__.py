"""What a run shows of itself, and how two runs differ, as pages of HTML. Never changes a result.

May import: core, hardware, contest, jobs, training, cleaning, answers, looking.

Counts in no digest, nor does what it is given.
"""
