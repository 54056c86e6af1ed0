"""A loop that is watched: its history, and the rules that read it."""
