"""Many runs: jobs, their groups, worker processes, launchers, estimates of time."""
