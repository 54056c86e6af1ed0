"""What is shown of a run: text for the terminal, progress while it trains. Reads records only."""
