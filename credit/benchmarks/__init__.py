"""Benchmarks: time and memory of training steps and of data loading, as ratios of measurements in one process."""
