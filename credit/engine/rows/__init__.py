"""Rows: how a torch module, function or method becomes ops of a plan. The table of all rows is `credit.engine.rows.table`."""
