"""Test a paper's claims by statistics of the runs."""
