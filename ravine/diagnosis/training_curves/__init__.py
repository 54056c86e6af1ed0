"""The curves of a finished run, and the rules that read them."""
