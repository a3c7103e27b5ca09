"""The contest as data: parameters, listings, pictures, the label table, journals.

May import: core.
"""
