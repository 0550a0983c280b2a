"""Rules with one backward pass: output error, gate, feedback weights and normalizer are four choices."""
