"""What people see and decide: galleries, sheets, plots. Never changes a result.

May import: core, hardware, contest, jobs, training.

Counts in no digest, nor does what it is given.
"""
