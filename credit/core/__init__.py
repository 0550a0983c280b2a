"""What everything else stands on: errors, options, randomness, the meaning of outputs, the configuration. Imports no torch."""
