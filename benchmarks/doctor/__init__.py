"""Programs in plain PyTorch, sick and healthy, and the score of a doctor who is shown them."""
