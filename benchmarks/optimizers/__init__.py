"""Which optimizer, and how sure is that? All of Ravine's, tuned alike, on small problems."""
