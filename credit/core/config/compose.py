"""Compose a run in Python from the words of the command line; what `credit-train` does without its screen."""

import copy
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from credit.core.config import sources
from credit.core.config.folders import conf_folder
from credit.core.config.overrides import explain, rewrite
from credit.core.config.schema import RunConfig, text_options
from credit.core.config.validate import check
from credit.core.errors import UserError

MOST_KEPT = 512
"""How many combinations of choices are kept in memory, of about 50 kB each."""

_Kept = tuple[dict[str, sources.FileState], Any]  # the files looked for, and what they compose to
_kept: dict[tuple[str, ...], _Kept] = {}
_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:.*\}", re.DOTALL)


def compose(words: Sequence[str] = ()) -> RunConfig:
    """Return the checked run of such words as ``["rule=bp", "noise=0.4", "trainer.epochs=3"]``.

    The files are the package's and those of `credit.core.user_files.use_folders`.

    Raises:
        UserError: the words do not describe a run.
    """
    return compose_each(words, [{}])[0]


def compose_each(words: Sequence[str], changes: Sequence[Mapping[str, Any]]) -> list[RunConfig]:
    """Return the run of `words` once for each of `changes`, such as ``{"seed": 1, "data.fold": 3}``, reading files once.

    Each is the run that its changes as further words give: values that refer to a changed one follow it.

    Args:
        words: as of `compose`.
        changes: values by dotted key.

    Raises:
        UserError: the words, or one of the changes, do not describe a run.
    """
    rewritten = rewrite(words)
    try:
        composed = compose_words(rewritten)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error
    return variants(composed, changes)


def variants(composed: Any, changes: Sequence[Mapping[str, Any]]) -> list[RunConfig]:
    """Return the run of a composed OmegaConf mapping once for each of `changes`; see `compose_each`.

    Raises:
        UserError: the mapping, or one of the changes, does not describe a run.
    """
    composed = _without_hydra(composed)
    OmegaConf.set_struct(composed, False)
    try:
        fixed = "${" not in repr(OmegaConf.to_container(composed))
    except OmegaConfBaseException as error:
        raise explain(error) from error
    if fixed:  # a check of plain values is ten times as fast as OmegaConf's way to them
        plain = checked(composed).as_dict()
        return [check(_with(plain, change)) for change in changes]
    runs = []
    for change in changes:
        for key, value in change.items():
            OmegaConf.update(composed, key, value)
        runs.append(checked(composed))
    return runs


def _from_files(rewritten: list[str]) -> Any:
    sources.register()
    running = GlobalHydra.instance()
    outer, running.hydra = running.hydra, None  # as in a sweep, or in a Hydra application of the user's
    try:
        with hydra.initialize(config_path=None, version_base="1.3"):
            return hydra.compose("config", overrides=rewritten)
    finally:
        GlobalHydra.instance().hydra = outer


def compose_words(rewritten: list[str]) -> Any:
    """Return the OmegaConf mapping of words, its interpolations unresolved.

    What choices of files compose to is kept in memory; in a copy of it single values are set, as Hydra sets them last too.

    Args:
        rewritten: words without flags, as `credit.core.config.overrides.rewrite` returns them.

    Raises:
        HydraException, OmegaConfBaseException: Hydra refuses the words; see `credit.core.config.overrides.explain`.
        UserError: a file cannot be read.
    """
    choices = _choices(rewritten)
    values = [_override(word) for word in rewritten if word.startswith("++")]
    plain = not any("${" in word or word.startswith("hydra") for word in choices)
    if not plain or any(value.is_sweep_override() or value.package is not None for value in values):
        return _from_files(rewritten)  # of the environment as it is now; or what Hydra refuses, in its own way
    composed = copy.deepcopy(_of_choices(choices))
    OmegaConf.set_struct(composed, False)
    for value in values:
        OmegaConf.update(composed, value.key_or_group, value.value(), merge=True, force_add=True)
    return composed


def mention_hydra(rewritten: list[str]) -> bool:
    """Return whether words, or a file that they choose and that is not the package's, set or read something of Hydra's own.

    Args:
        rewritten: as of `compose_words`, which has composed them.
    """
    if any(re.match(r"hydra[./=]", word) or "${hydra" in word for word in rewritten):
        return True
    files, _ = _kept.get(tuple(sorted(_choices(rewritten))), ({"": ("", -1, -1, -1)}, None))
    paths = [state[0] for state in files.values() if state is not None]
    own = [path for path in paths if not path.startswith(f"{conf_folder()}/")]
    return any(not path or "hydra" in Path(path).read_text(encoding="utf-8") for path in own)


def _choices(rewritten: list[str]) -> list[str]:
    return [word for word in rewritten if not word.startswith("++")]


def _of_choices(choices: list[str]) -> Any:
    """Return what choices of files compose to, from memory where every file that Hydra looked for is as it was then."""
    key = tuple(sorted(choices))
    if key in _kept:
        files, composed = _kept[key]
        if sources.states(files) == files:
            return composed
    elif len(_kept) >= MOST_KEPT:
        _kept.clear()
    with sources.recorded() as files:
        composed = _without_hydra(_from_files(choices))
    _kept[key] = files, composed
    return composed


@functools.lru_cache(maxsize=1024)
def _override(word: str) -> Override:
    return OverridesParser.create().parse_overrides([word])[0]


def _with(plain: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested mappings with values put at dotted keys."""
    changed = dict(plain)
    for key, value in change.items():
        first, _, rest = key.partition(".")
        inner = changed.get(first)
        if rest and not isinstance(inner, dict):
            raise UserError(f"cannot set {key}: {first} has no options")
        changed[first] = _with(inner or {}, {rest: value}) if rest else value
    return changed


def checked(composed: Any) -> RunConfig:
    """Return the run that a composed OmegaConf mapping describes, its interpolations resolved, Hydra's part left out."""
    composed = _without_hydra(composed)
    try:
        plain = OmegaConf.to_container(composed, resolve=True)
        _read_environment(composed, plain)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    if not isinstance(plain, dict):
        raise UserError("the configuration is not a mapping of groups to options")
    return check({str(key): value for key, value in plain.items()})


def _read_environment(composed: Any, plain: Any, group: str = "") -> None:
    """Read values that come from the environment as the command line reads words: ``${oc.env:SEED}`` is a number.

    An option that takes a text keeps the text.

    Args:
        composed: an OmegaConf mapping.
        plain: the same, resolved; changed in place.
        group: its name.
    """
    texts = text_options(group)
    for key in composed:
        node = composed._get_node(key)
        if isinstance(node, DictConfig) and isinstance(plain[key], dict):
            _read_environment(node, plain[key], str(key))
        elif _ENVIRONMENT.fullmatch(str(node._value())) and isinstance(plain[key], str) and key not in texts:
            plain[key] = _as_word(plain[key])


def _as_word(text: str) -> Any:
    """Return the value of a word ``key=text``, the text itself where Hydra cannot read it as one value."""
    try:
        read = _override(f"key={text}")
    except HydraException:
        return text
    return text if read.is_sweep_override() else read.value()


def _without_hydra(composed: Any) -> Any:
    return OmegaConf.masked_copy(composed, [*{*composed} - {"hydra"}]) if "hydra" in composed else composed
