"""What is measured of a data set, and the rules that read it."""
