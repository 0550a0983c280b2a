"""The state of a run: checkpoints, their fingerprints, and resumption."""
