"""Studies: questions that take many runs. Checks before training, range tests, searches,
ensembles.
"""
