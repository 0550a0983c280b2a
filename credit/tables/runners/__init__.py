"""Runners: what produces the result of a table's cell."""
