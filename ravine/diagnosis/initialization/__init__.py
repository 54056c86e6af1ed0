"""Model and loss before the first step: probes, what they measured, and the rules that read it."""
