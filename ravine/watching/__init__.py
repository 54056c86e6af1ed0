"""Watch a training loop that someone else wrote."""
