"""What measurements mean: rules that read nouns and records, and never train."""
