"""Rules that give every layer a target: local representation alignment, target propagation."""
