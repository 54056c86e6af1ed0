"""What trying remedies showed, and the rules that read it."""
