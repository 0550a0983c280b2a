"""How steps are executed: several replicas of a run in one pass."""
