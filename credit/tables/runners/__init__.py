"""Runners, which compute the result of a table's cell."""
