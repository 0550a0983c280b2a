"""Tables: the published ones in folds, and CSV files of one's own."""
