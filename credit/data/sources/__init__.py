"""Sources of examples: one file for each kind of data set, and shared functions that read files safely."""
