"""The data path's promise: ten times torchvision's transforms on two workers."""

import pytest

from credit.benchmarks.data import bench_data_path


@pytest.mark.slow
def test_augmented_batches_are_ten_times_as_fast_as_torchvisions(need_data):
    measured = bench_data_path(str(need_data("cifar10")), samples=20000)
    assert measured["ratio"] >= 10
    assert measured["samples"] == 20000 and measured["torchvision_samples"] == 10000
