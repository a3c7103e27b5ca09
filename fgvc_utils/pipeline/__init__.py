"""A contest file from check to submission: plan, stamps, kernels.

May import: core, hardware, contest, jobs, training, cleaning, answers, pages.

Counts in no digest.
"""
