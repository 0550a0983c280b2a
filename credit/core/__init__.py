"""Errors, options, randomness, output kinds and the configuration, used by all other packages. Imports no torch."""
