"""Sweeps of many runs: jobs, groups of seeds, worker processes, launchers and estimates of time."""
