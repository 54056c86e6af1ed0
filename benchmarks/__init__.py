"""Ravine's speed beside that of others, and what its own conveniences cost; see README.md."""
