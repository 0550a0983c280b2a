"""Measures of a table's runs, and their collection by cell."""
