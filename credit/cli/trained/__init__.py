"""The commands for a finished run: ``credit eval``, ``credit predict`` and ``credit export``."""
