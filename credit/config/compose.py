"""Compose a run in Python from the words of the command line; what `credit-train` does without its screen."""

from collections.abc import Sequence
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from credit.config import sources
from credit.config.overrides import explain, rewrite
from credit.config.schema import RunConfig
from credit.config.validate import check
from credit.errors import UserError


def compose(words: Sequence[str] = ()) -> RunConfig:
    """Return the checked run of such words as ``["rule=bp", "noise=0.4", "trainer.epochs=3"]``.

    The files are the package's and those of `credit.config.plugins.use_folders`.

    Raises:
        UserError: the words do not describe a run.
    """
    sources.register()
    rewritten = rewrite(words)
    try:
        with hydra.initialize(config_path=None, version_base="1.3"):
            composed = hydra.compose("config", overrides=rewritten)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error
    return checked(composed)


def checked(composed: Any) -> RunConfig:
    """Return the run that a composed OmegaConf mapping describes, its interpolations resolved, Hydra's part left out."""
    try:
        plain = OmegaConf.to_container(OmegaConf.masked_copy(composed, [*{*composed} - {"hydra"}]), resolve=True)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    if not isinstance(plain, dict):
        raise UserError("the configuration is not a mapping of groups to options")
    return check({str(key): value for key, value in plain.items()})
