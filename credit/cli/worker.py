"""What a sweep's worker processes do; imports little, because every worker imports it."""

from typing import Any

from credit.config import check
from credit.config.plugins import use_folders
from credit.errors import UserError


def first_refused(payload: dict[str, Any]) -> tuple[int, str] | None:
    """Return the index of the first configuration that cannot run and why, or None where all can.

    Args:
        payload: ``configs``, a list of `RunConfig.as_dict`, and ``folders``, the user's configuration folders.
    """
    use_folders(payload["folders"])
    from credit.training import prepare

    for index, config in enumerate(payload["configs"]):
        try:
            prepare(check(config))
        except UserError as error:
            return index, str(error)
    return None


def train_one(payload: dict[str, Any]) -> dict[str, Any]:
    """Train the one configuration of the payload and return its result."""
    use_folders(payload["folders"])
    from credit.training import train

    [config] = payload["configs"]
    return train(check(config), console=False)
