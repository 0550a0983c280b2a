"""Published tables as data: a spec says what to run and what was published; a table is run, a report judges it."""
