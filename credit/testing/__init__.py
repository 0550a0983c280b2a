"""Tests of rules: the battery that every rule, a user's too, has to pass."""
