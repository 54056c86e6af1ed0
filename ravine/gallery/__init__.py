"""The lectures' claims, each put to the test on data."""
