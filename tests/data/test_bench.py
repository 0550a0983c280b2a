"""The data path's promise: ten times torchvision's transforms on two workers."""

import pytest

from credit.data.bench import bench_data_path


@pytest.mark.slow
def test_augmented_batches_are_ten_times_as_fast_as_torchvisions(data_root):
    if not (data_root / "cifar10.npz").is_file():
        pytest.skip(f"cifar10.npz is not in {data_root}")
    measured = bench_data_path(str(data_root), samples=20000)
    assert measured["ratio"] >= 10
    assert measured["samples"] == 20000 and measured["torchvision_samples"] == 10000
