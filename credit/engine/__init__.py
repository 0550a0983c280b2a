"""The engine: trace a module into a plan, run it forwards, sweep a signal back. Knows nothing of rules."""
