"""Which images and labels are right (01 to 04).

May import: core, contest, jobs, training.
"""
