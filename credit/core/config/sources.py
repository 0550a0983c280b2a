"""Hydra plugins that find and read this project's YAML: two of them, registered only while our own commands run.

A file of overrides (``# @package _global_``: an experiment, a debug setting) may be written as the command line is,

    data: cifar10
    noise: 0.4

which Hydra alone would take for values that replace whole groups; they are read as choices (``override /noise: 0.4``),
so that a choice on the command line still wins. A number as a choice of `noise` is symmetric noise of that rate.

A file that gives one of `trainer.epochs` and `trainer.steps` clears the other, as one word on the command line does: a run
has one length, and `trainer/default.yaml` gives one.

Any other file may bring the default of another group (``defaults: [override /arch: plain_conv_bn, _self_]`` in a data
set's file): what an experiment or the command line chooses wins over it.
"""

import contextlib
import copy
import functools
import io
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from credit.core.config.folders import check_defaults, choices, search_folders
from credit.core.config.schema import GROUPS, LENGTHS, NUMBER
from credit.core.errors import UserError
from credit.core.reading import read_text
from credit.core.registry import HOMES

SCHEME = "credit"

FileState = tuple[str, int, int, int] | None
"""Path, time of change in ns, size in bytes and number of a file; None where there is none."""

_COARSEST_CLOCK = 2.0  # seconds: two changes within that time may have the same time of change

_records: list[dict[str, FileState]] = []


class CreditConfigSource(FileConfigSource):
    """YAML files of one folder, with choices made of numbers and scalars read as choices."""

    @staticmethod
    def scheme() -> str:
        """Return the word before ``://`` that Hydra knows this reader by."""
        return SCHEME

    def is_config(self, config_path: str) -> bool:
        """Return whether there is such a file, or a choice that stands for one."""
        _record(self._normalize_file_name(config_path))
        return super().is_config(config_path) or self._stands_for(config_path) is not None

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file; see the module's description."""
        stands_for = None if super().is_config(config_path) else self._stands_for(config_path)
        if stands_for is None:
            result = self._load_file(config_path)
        elif stands_for == "component":
            _record(self._normalize_file_name(config_path), unsettled=True)
            group, _, name = config_path.removesuffix(".yaml").partition("/")
            cfg = OmegaConf.create({"kind": name, **({"name": name} if group == "rule" else {})})
            result = ConfigResult(provider=self.provider, path=self.full_path(), config=cfg, header={"package": None})
        else:
            result = super().load_config("noise/symmetric")
            result.config["rate"] = float(config_path.removeprefix("noise/").removesuffix(".yaml"))
        if isinstance(result.config, DictConfig):
            if result.header.get("package") == "_global_":
                _read_scalars_as_choices(result.config)
                _keep_one_length(result.config.get("trainer"))
            elif "/" in config_path and "defaults" in result.config:
                result.config["defaults"] = [_reach_other_groups(entry) for entry in result.config["defaults"]]
            if config_path.startswith("trainer/"):
                _keep_one_length(result.config)
        return result

    def _load_file(self, config_path: str) -> ConfigResult:
        name = f"{self.path}/{self._normalize_file_name(config_path)}"
        if not super().is_config(config_path):
            return super().load_config(config_path)  # which raises Hydra's error of a missing file
        text = read_text(Path(name))
        if "${" in text or "searchpath" in text:
            _record(self._normalize_file_name(config_path), unsettled=True)
        try:
            config = copy.deepcopy(_parsed(text))
        except (YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(config, DictConfig):
            raise UserError(f"{name} cannot be read: it must hold 'key: value' lines, not a list")
        if "defaults" in config:
            check_defaults(name, config["defaults"])
        header = self._get_header_dict(text)
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header=header)

    def _stands_for(self, config_path: str) -> str | None:
        """Return "noise" for ``noise/0.4``, "component" for one of the user's, or of an installed package, without a YAML."""
        group, _, name = config_path.removesuffix(".yaml").partition("/")
        if group == "noise" and NUMBER.fullmatch(name) and super().is_config("noise/symmetric"):
            return "noise"
        if group in HOMES and super().is_config("config") and name in choices(group):
            return "component"
        return None


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    return OmegaConf.load(io.StringIO(text))


@contextlib.contextmanager
def recorded() -> Iterator[dict[str, FileState]]:
    """Give a mapping that is filled with each file that Hydra looks for, as ``rule/bp.yaml``, and its state.

    As long as `states` returns the same, Hydra composes the same of the same words. Where that does not follow, a file's state
    is none that `states` returns: it was changed a moment ago, has an interpolation, which may name a choice by the
    environment, names further folders, or a component stands for it.
    """
    _records.append({})
    try:
        yield _records[-1]
    finally:
        _records.pop()


def states(files: Iterable[str]) -> dict[str, FileState]:
    """Return the state of each file in the first of the folders that has it; None also for a link to nothing."""
    folders = search_folders()
    return {file: _state(file, folders) for file in files}


def _state(file: str, folders: Iterable[Path]) -> FileState:
    for folder in folders:
        path = f"{folder}/{file}"
        with contextlib.suppress(OSError):
            found = os.stat(path)
            if stat.S_ISREG(found.st_mode):
                return path, found.st_mtime_ns, found.st_size, found.st_ino
    return None


def _record(file: str, unsettled: bool = False) -> None:
    if not _records or (file in _records[-1] and not unsettled):
        return
    found = _state(file, search_folders())
    changed = found is not None and time.time() - found[1] / 1e9 < _COARSEST_CLOCK
    _records[-1][file] = (found[0] if found else "", -1, -1, -1) if unsettled or changed else found


def _keep_one_length(trainer: Any) -> None:
    if isinstance(trainer, DictConfig):
        given = [key for key in LENGTHS if trainer.get(key) is not None]
        if len(given) == 1:
            trainer.update(dict.fromkeys(LENGTHS, None) | {given[0]: trainer[given[0]]})


def _read_scalars_as_choices(cfg: DictConfig) -> None:
    defaults: list[Any] = [_with_words(entry) for entry in cfg.get("defaults", ["_self_"])]
    for group in GROUPS:
        value = cfg.get(group)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            del cfg[group]
            defaults.append({f"override /{group}": str(value)})
    cfg["defaults"] = defaults


def _reach_other_groups(entry: Any) -> Any:
    """Return an entry of a defaults list whose ``override /arch`` names the group itself, not one inside its own."""
    if not isinstance(entry, DictConfig):
        return entry
    named = {f"override /{group}": f"override /{group}@_global_.{group}" for group in GROUPS}
    return {named.get(str(key), key): str(value) for key, value in entry.items()}


def _with_words(entry: Any) -> Any:
    """Return an entry of a defaults list with a number written as the word Hydra wants."""
    if not isinstance(entry, DictConfig):
        return entry
    return {key: str(value) if isinstance(value, int | float) else value for key, value in entry.items()}


class CreditSearchPath(SearchPathPlugin):
    """The user's folders, then the package's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folders to Hydra's list."""
        for folder in search_folders():
            search_path.append(SCHEME, f"{SCHEME}://{folder}")


def register() -> None:
    """Make Hydra, in this process, read our folders; calling it again changes nothing."""
    plugins = Plugins.instance()
    plugins.register(CreditConfigSource)
    plugins.register(CreditSearchPath)
