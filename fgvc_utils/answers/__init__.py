"""From many models to one class for every test image (30, 40).

May import: core, contest, jobs, training.
"""
