"""What a run gives to others: labels for other tools, answers for new photos, a network as a file.

May import: core, hardware, contest, jobs, training, answers.

Counts in no digest.
"""
