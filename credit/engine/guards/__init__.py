"""Checks that a plan computes what its module computes: before, during and after tracing."""
