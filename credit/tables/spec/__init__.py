"""The file of a table: its parts as dataclasses, parsed with the line of every complaint."""
