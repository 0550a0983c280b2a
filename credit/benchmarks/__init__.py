"""Benchmarks: time and memory of steps and of data loading, as ratios within one process."""
