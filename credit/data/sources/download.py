"""Fetching a set with torchvision: one process at a time, archive digests checked before anything is unpacked."""

from collections.abc import Callable
from pathlib import Path

from credit.core.errors import UserError

TORCHVISION_NAMES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def fetch(
    kind: str, root: Path, present: Callable[[], bool], download: Callable[[str, Path], None] | None = None
) -> None:
    """Download a set into `root` unless it is there; processes that come at the same time wait for the first.

    Args:
        kind: a key of `TORCHVISION_NAMES`.
        root: the data folder; made if missing.
        present: whether the set is there now; asked again once the lock is held.
        download: what fetches it; torchvision by default.

    Raises:
        UserError: no connection, no space, or an archive with another digest.
    """
    from filelock import FileLock

    if present():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{kind}.lock"):
            if not present():
                (download or _with_torchvision)(kind, root)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; torchvision's digest mismatch a RuntimeError
        raise UserError(
            f"downloading {kind} into {root} failed: {error}\nGet the files by other means and put them there, "
            f"without data.download=true"
        ) from error


def _with_torchvision(kind: str, root: Path) -> None:
    import torchvision

    getattr(torchvision.datasets, TORCHVISION_NAMES[kind])(str(root), download=True)
