"""Sick and healthy training scripts in plain PyTorch, and the score of tools that diagnose them."""
