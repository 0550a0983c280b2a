"""Launch jobs that are a list, not a grid, by Hydra's launchers, as `credit table` does on a cluster."""

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from credit.core.errors import UserError, nearest
from credit.core.user_files import use_folders, user_folders
from credit.runs.provenance import note_job_commands

JOBS = "hydra.launcher.jobs"


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split words of a command line into settings of runs and settings of Hydra (``hydra/launcher=...``, ``hydra.<...>=...``)."""
    ours = [word for word in words if not word.lstrip("+").startswith(("hydra/", "hydra."))]
    return ours, [word for word in words if word not in ours]


def local_jobs(words: Sequence[str]) -> int | None:
    """Return the number of concurrent jobs on this machine, or None if it is not given.

    Args:
        words: settings of Hydra's local launcher.

    Raises:
        UserError: the local launcher has no such setting, or the number is not a positive integer.
    """
    from credit.sweeps.jobs import check_parallel

    count = None
    for word in words:
        key, _, value = word.partition("=")
        if key == "hydra/launcher":
            continue
        if key != JOBS:
            raise UserError(
                f"{word}: the local launcher has one setting, {JOBS}=N. Others belong to another launcher, for example "
                f"hydra/launcher=submitit_slurm {key if key.startswith('hydra.launcher.') else 'hydra.launcher.x'}=..."
            )
        count = check_parallel(int(value) if value.isdecimal() else value)
    return count


def is_local(words: Sequence[str]) -> bool:
    """Return whether Hydra's settings choose the local launcher or none."""
    chosen = [word.partition("=")[2] for word in words if word.startswith("hydra/launcher=")]
    return not chosen or chosen[-1] == "local"


@contextlib.contextmanager
def hydra_launcher(words: Sequence[str], folder: Path) -> Iterator[Any]:
    """Yield one of Hydra's launchers, set up for `credit.sweeps.jobs.run_with`.

    Args:
        words: settings of Hydra, among them ``hydra/launcher=<name>``.
        folder: folder of the launcher's files, such as submitit's logs.

    Raises:
        UserError: the launcher does not exist, cannot work on this machine, or has no such setting.
    """
    import hydra
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException
    from hydra.types import HydraContext
    from omegaconf.errors import OmegaConfBaseException

    from credit.core.config import sources
    from credit.core.config.overrides import explain, quoted

    sources.register()
    _check_name(words)
    overrides = ["hydra.mode=MULTIRUN", f"hydra.sweep.dir={quoted(str(folder))}", *words]
    with hydra.initialize(config_path=None, version_base="1.3", job_name="credit"):
        try:
            plain = hydra.compose("config", overrides=[_launcher_word(words)], return_hydra_config=True)
            _check_settings(words, [key for key in plain.hydra.launcher if key != "_target_"])
            config = hydra.compose("config", overrides=overrides, return_hydra_config=True)
            context = HydraContext(config_loader=GlobalHydra.instance().config_loader(), callbacks=Callbacks())
            launcher = Plugins.instance().instantiate_launcher(
                hydra_context=context, task_function=job_task(), config=config
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise explain(error) from error
        yield launcher


def _launcher_word(words: Sequence[str]) -> str:
    return [word for word in words if word.startswith("hydra/launcher=")][-1]


def _check_settings(words: Sequence[str], valid: Sequence[str]) -> None:
    for word in words:
        key = word.partition("=")[0].partition("hydra.launcher.")[2].partition(".")[0]
        if key and not word.startswith("+") and key not in valid:
            raise UserError(
                f"{word}: {_launcher_word(words).partition('=')[2]} has no such setting; {nearest(key, valid)}"
            )


def _check_name(words: Sequence[str]) -> None:
    """Refuse a launcher that is not installed, or SLURM's on a machine without it.

    Raises:
        UserError: naming the launchers that exist, or what to do without SLURM.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # imports the plugins, which register their launchers
    names = sorted(name.removesuffix(".yaml") for name in ConfigStore.instance().list("hydra/launcher"))
    chosen = _launcher_word(words).partition("=")[2]
    if chosen not in names:
        slurm = "; submitit_slurm and submitit_local come with pip install 'credit[slurm]'"
        raise UserError(
            f"unknown launcher '{chosen}': {nearest(chosen, names)}{'' if 'submitit_slurm' in names else slurm}"
        )
    if chosen == "submitit_slurm" and shutil.which("srun") is None:
        raise UserError(
            "hydra/launcher=submitit_slurm: there is no SLURM on this machine (no srun). Give the command on a cluster's login "
            "node, or leave the launcher out to run here; hydra/launcher=submitit_local tries submitit without a cluster"
        )


def job_task() -> Callable[[Any], list[dict[str, Any]]]:
    """Return the function that Hydra's launchers run as a job: `train_job` with the user's folders of this process.

    The function is pickled; the job may run on another machine and has no other state of this process.
    """
    task = functools.partial(train_job, [str(folder) for folder in user_folders()])
    return functools.update_wrapper(task, train_job)


def train_job(folders: list[str], cfg: Any) -> list[dict[str, Any]]:
    """Train one composed configuration as a Hydra job, and return its results, one a seed, diverged runs included.

    Args:
        folders: the user's configuration folders.
        cfg: the configuration that Hydra composed.

    Raises:
        UserError: a run cannot be trained.
    """
    from hydra.core.hydra_config import HydraConfig

    from credit.core.config.compose import checked, variants
    from credit.runs.identity import run_name
    from credit.sweeps.groups import command_of, replica_seeds
    from credit.sweeps.worker import train_seeds

    use_folders(folders)
    runs = variants(cfg, [{"seed": seed, "replicas": 1} for seed in replica_seeds(checked(cfg))])
    if HydraConfig.initialized():
        words = list(HydraConfig.get().overrides.task)
        note_job_commands({run_name(run): command_of(words, run.seed) for run in runs})
    pairs = train_seeds(runs)
    for _, error in pairs:
        if error is not None:
            raise UserError(error)
    return [result for result, _ in pairs if result is not None]
