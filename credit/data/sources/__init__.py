"""Where examples come from: one file a kind of data set, and what they share to read files safely."""
