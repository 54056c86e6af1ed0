"""Find out why training goes wrong, and try remedies: of recipes and of torch programs."""
