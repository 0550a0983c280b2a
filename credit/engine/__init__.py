"""The engine: trace a module into a plan, run it forwards, send an error signal back. Knows nothing of rules."""
