"""Whole files and safe processes; knows nothing of images.

May import: nothing else of the package.
"""
