"""From a table to its runs."""
