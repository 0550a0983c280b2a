"""The command line's words before Hydra reads them, and Hydra's complaints in ours afterwards."""

import re
from collections.abc import Iterable

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from credit.config.folders import OVERLAYS, choices
from credit.config.schema import GROUPS, LENGTHS, NUMBER
from credit.errors import UserError, nearest

_OVERRIDE = re.compile(r"(?P<prefix>~|\+{0,2})(?P<key>[A-Za-z_][^=\s]*)=(?P<value>.*)", re.DOTALL)
_NOT_A_WORD = re.compile(rf"{NUMBER.pattern}|null|true|false", re.IGNORECASE)
_LENGTHS = [f"trainer.{name}" for name in LENGTHS]


def rewrite(words: Iterable[str]) -> list[str]:
    """Return command-line words (flags pass through) in the form Hydra needs.

    - ``noise=0,0.4`` becomes ``noise='0','0.4'``: Hydra takes no number for a group; `credit.config.sources` reads it.
    - ``lr=1`` becomes ``++lr=1``: with or without a plus an unknown key reaches `credit.config.check`, which names the
      nearest valid one.
    - ``trainer.steps=100`` alone also clears `trainer.epochs`, and the other way round: files give a default length.
    """
    rewritten = []
    lengths = []
    seen: dict[str, str] = {}
    for word in words:
        match = _OVERRIDE.fullmatch(word)
        if match is None or match["prefix"] == "~" or match["key"].startswith("hydra"):
            rewritten.append(word)
            continue
        key, value = match["key"], match["value"]
        if key == "paper":
            raise UserError(f"paper={value} is many runs: credit table {value or '<paper>/<table>'}")
        if seen.setdefault(key, value) != value:
            raise UserError(f"{key} is given twice, as {seen[key]} and as {value}: keep one")
        if key in OVERLAYS and value in ("null", "none"):
            continue
        if key in (*GROUPS, *OVERLAYS):
            rewritten.append(f"{key}={_choice(key, value)}")
        else:
            rewritten.append(f"++{key}={value}")
            lengths += [key] if key in _LENGTHS and value != "null" else []
    if len(lengths) == 1:
        other = _LENGTHS[1 - _LENGTHS.index(lengths[0])]
        rewritten.append(f"++{other}=null")
    return rewritten


def _choice(group: str, value: str) -> str:
    """Return a group override's value with numbers quoted (and null, true, false, so that Hydra calls them unknown)."""
    if value.strip() == "":
        raise UserError(f"{group}= is empty: write {group}=<choice>; {nearest('', choices(group))}")
    if value.startswith(("[", "{")):
        raise UserError(f"{group}={value}: takes one choice by name. To run several write -m {group}=first,second")
    inner = re.fullmatch(r"choice\((.*)\)", value.strip())
    listed = inner[1] if inner else value
    return ",".join(f"'{item.strip()}'" if _NOT_A_WORD.fullmatch(item.strip()) else item for item in listed.split(","))


def quoted(text: str) -> str:
    """Return a text as Hydra reads it back from a word, whatever characters it has."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return f"'{escaped}'"


def explain(error: HydraException | OmegaConfBaseException) -> UserError:
    """Return Hydra's or OmegaConf's error in this project's words."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_choice(error.missing_cfg_file)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    text = str(error) or str(error.__cause__)
    if isinstance(error, ConfigCompositionException):
        several = re.search(r"argument '(?P<word>[^']*(?:'[^']*'[^']*)*)'\n1\.", text)
        if several or "requires --multirun" in text:
            key, _, value = plain(several["word"] if several else text.split("'")[1]).partition("=")
            as_list = "" if key in GROUPS else f"; to give a list write {key}=[{value}]"
            return UserError(f"{key}={value} gives several values to one run. To run each of them add -m{as_list}")
    cause = f" ({error.__cause__})" if error.__cause__ is not None and str(error.__cause__) not in text else ""
    return UserError(" ".join((text + cause).split()))


def plain(word: str) -> str:
    """Return a rewritten word as the user wrote it."""
    return re.sub(r"'([^']*)'", lambda m: m[1] if NUMBER.fullmatch(m[1]) else m[0], word.removeprefix("++"))


def _missing_choice(path: str) -> UserError:
    group, _, name = path.partition("/")
    if group == "" or group not in (*GROUPS, *OVERLAYS):
        return UserError(f"no configuration file {path}.yaml; groups: {', '.join((*GROUPS, *OVERLAYS))}")
    also = {"noise": ", or a rate such as 0.4", "arch": "; any timm model: arch=timm arch.name=resnet18"}.get(group, "")
    return UserError(f"unknown {group} '{name}': {nearest(name, choices(group))}{also}")


def _unreadable(word: str) -> UserError:
    shown = plain(word)
    key, equals, value = shown.partition("=")
    if not equals:
        return UserError(
            f"cannot read '{shown}': settings are written key=value, for example optimizer.lr=0.1 or rule=bp"
        )
    if not re.fullmatch(r"[~+]{0,2}[\w./@-]+", key):
        return UserError(f"cannot read '{shown}': '{key}' is no name; settings are written key=value without spaces")
    return UserError(
        f"cannot read '{shown}': the value {value!r} has an open bracket, quote or a special character; "
        f"put the whole in quotes for the shell and the text in quotes inside: \"{key}='...'\""
    )
