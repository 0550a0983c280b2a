"""The report of a table: its content, and its output as Markdown, HTML and CSV."""
