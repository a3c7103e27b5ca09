"""From a job to a network, its predictions and its weights (10, 20).

May import: core, hardware, contest, jobs.
"""
