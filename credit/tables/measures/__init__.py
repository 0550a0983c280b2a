"""Numbers of a table's runs: what is measured, and how it is collected."""
