"""Watch the training loop of any PyTorch program: hooks record it, the rules of loops read it."""
