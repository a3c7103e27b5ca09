"""Cleaning, training, ensembling and submission of a fine-grained contest; a wing a folder."""
