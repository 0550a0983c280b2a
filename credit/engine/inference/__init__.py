"""Inference of states on a plan: states and segments, blocks, and programs of instructions."""
