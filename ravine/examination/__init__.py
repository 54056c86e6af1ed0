"""Find out why training goes wrong, and try the remedies: of recipes and of other people's torch
programs.
"""
