"""Networks: what layers they have, what these compute, and how their weights start."""
