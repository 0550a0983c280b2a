"""Networks of sequences of tokens."""
