"""Hydra's names for this project's sweeps: ``hydra/sweeper=grid`` and ``hydra/launcher=local``.

Hydra imports every file of this package at each start, so the work itself is in `credit.cli.sweep`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from credit.core.errors import UserError


class GridSweeper(BasicSweeper):
    """Every combination of the values given, in one batch: all jobs are checked before the first starts."""

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the combinations of the overrides `arguments`; leaves with exit code 1 where a job failed."""
        assert self.hydra_context is not None and self.launcher is not None and self.config is not None
        if self.max_batch_size is not None:
            raise UserError(
                f"hydra.sweeper.max_batch_size={self.max_batch_size} would change nothing: all jobs are checked before the first "
                "starts, so they are one batch. hydra.launcher.jobs says how many run at the same time"
            )
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        if empty := [
            one.input_line for one in overrides if one.is_sweep_override() and not [*one.sweep_string_iterator()]
        ]:
            raise UserError(f"{empty[0]} stands for no value, so there is no job to run")
        [batch] = self.split_arguments(overrides, max_batch_size=None)
        if isinstance(self.launcher, LocalLauncher):
            return [self.launcher.launch(batch, initial_job_idx=0)]
        from credit.cli.sweep import launch, there

        launch(batch, _compose(self.config), there(self.launcher), elsewhere=True)
        return []


class LocalLauncher(Launcher):
    """One process a job on this machine; see `credit.cli.sweep`."""

    def __init__(self, jobs: int | None) -> None:
        self.jobs = jobs
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composes a job; the task function is not used, jobs run in processes of their own."""
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs to their end; leaves with exit code 1 where one of them failed."""
        from credit.cli.sweep import here, launch

        assert self.config is not None
        launch([list(words) for words in job_overrides], _compose(self.config), here(self.jobs))
        return []


def _compose(config: DictConfig) -> Callable[[list[str]], Any]:
    """Return the function that composes a job's words, with folders that were given to Hydra itself."""
    from credit.core.config.compose import compose_words

    folders = [word for word in config.hydra.overrides.hydra if word.startswith("hydra.searchpath=")]
    return lambda words: compose_words([*folders, *words])


@dataclass
class GridConf:
    """Options of the sweeper; the names `max_batch_size` and `params` are Hydra's.

    `_target_` is how Hydra finds a plugin's own class; no configuration of a run holds one.
    """

    _target_: str = "hydra_plugins.credit_local.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] = field(default_factory=dict)


@dataclass
class LocalConf:
    """Options of the launcher: how many jobs run at the same time; None: see `credit.cli.sweep.here`. For `_target_` see
    `GridConf`.
    """

    _target_: str = "hydra_plugins.credit_local.LocalLauncher"
    jobs: int | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="grid", node=GridConf, provider="credit")
ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalConf, provider="credit")
