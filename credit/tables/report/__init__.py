"""The report of a table: its content, and how it is written."""
