"""The command line's words before Hydra reads them, and Hydra's complaints in ours afterwards."""

import re
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from credit.core import registry
from credit.core.config.folders import OVERLAYS, choices
from credit.core.config.schema import GROUPS, LENGTHS, NUMBER
from credit.core.errors import UserError, nearest

_OVERRIDE = re.compile(r"(?P<prefix>\+{0,2})(?P<key>[A-Za-z_][^=\s]*)=(?P<value>.*)", re.DOTALL)
_FUNCTION = re.compile(r"\s*(\w+)\(")
_FUNCTIONS = ("choice", "range", "glob", "interval", "sort", "shuffle", "tag", "int", "float", "str", "bool")
_NESTED = re.compile(r"\$\{[^\"']*\$\{[^\"']*\}")  # an interpolation in another, which Hydra reads in quotes alone
_NUMBERS = re.compile(rf"(?<![\w./-])(?:{NUMBER.pattern})(?![\w./-])", re.IGNORECASE)
_UNREAD = {
    "hydra.run.": "runs go to the folder that the environment variable CREDIT_RUNS names",
    "hydra.output_subdir": "a run's configuration is in its own folder, config.json",
    "hydra.job.chdir": "a run changes no folder",
}
"""Settings of Hydra's that would change nothing, and why."""
_NOT_A_WORD = re.compile(rf"{NUMBER.pattern}|null|true|false", re.IGNORECASE)
_LENGTHS = [f"trainer.{name}" for name in LENGTHS]


def rewrite(words: Iterable[str]) -> list[str]:
    """Return command-line words (flags pass through) in the form Hydra needs.

    - ``noise=0,0.4`` becomes ``noise='0','0.4'``: Hydra takes no number for a group; `credit.core.config.sources` reads it.
    - ``lr=1`` becomes ``++lr=1``: with or without a plus an unknown key reaches `credit.core.config.check`, which names the
      nearest valid one.
    - ``trainer.steps=100`` alone also clears `trainer.epochs`, and the other way round: files give a default length.
    - ``seed=${oc.decode:${oc.env:SEED}}`` is put in quotes, without which Hydra does not read it.

    Raises:
        UserError: a word that Hydra would not read, or that would change nothing.
    """
    words = list(words)
    _refuse_intervals(words)
    rewritten = []
    lengths = []
    seen: dict[str, str] = {}
    for word in words:
        if word.startswith("-") or ("=" not in word and not word.startswith("~")):  # a flag, or what belongs to one
            rewritten.append(word)
            continue
        match = _OVERRIDE.fullmatch(word)
        if match is None:
            raise _deletion(word) if word.startswith("~") else _unreadable(word)
        key, value = match["key"], match["value"]
        if "@" in key:
            raise UserError(
                f"{key}={value}: options are in the group of their own name: write {key.split('@')[0]}={value}"
            )
        if re.match(r"hydra[./=]", f"{key}="):
            rewritten.append(_of_hydra(word, key, value))
            continue
        _refuse_underflow(key, value)
        if key == "paper":
            raise UserError(f"paper={value} is many runs: credit table {value or '<paper>/<table>'}")
        if seen.setdefault(key, value) != value:
            raise UserError(f"{key} is given twice, as {seen[key]} and as {value}: keep one")
        if key in OVERLAYS and value in ("null", "none"):
            continue
        if key in (*GROUPS, *OVERLAYS):
            rewritten.append(f"{key}={_choice(key, value)}")
        else:
            rewritten.append(f'++{key}="{value}"' if _NESTED.fullmatch(value) else f"++{key}={value}")
            lengths += [key] if key in _LENGTHS and value != "null" else []
    _refuse_one_rate_of_several(seen)
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
    listed = value.split(",")
    if _FUNCTION.match(value):
        parsed = _parsed(f"{group}={value}")
        if parsed.value_type in (ValueType.GLOB_CHOICE_SWEEP, None) or not parsed.is_sweep_override():
            return value
        listed = list(parsed.sweep_string_iterator())
    return ",".join(f"'{item.strip()}'" if _NOT_A_WORD.fullmatch(item.strip()) else item for item in listed)


def _parsed(word: str) -> Override:
    """Return what Hydra reads in a word.

    Raises:
        UserError: it cannot read it.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise _unreadable(word) from error


def _of_hydra(word: str, key: str, value: str) -> str:
    """Return a word about Hydra itself, a number as a choice quoted."""
    for unread, why in _UNREAD.items():
        if key.startswith(unread):
            raise UserError(f"{key}={value} would change nothing: {why}. Leave it out")
    return f"{key}='{value}'" if "/" in key and _NOT_A_WORD.fullmatch(value) else word


def _refuse_intervals(words: list[str]) -> None:
    """Refuse a range without values of its own, which sweepers that search can take and the grid cannot."""
    if any(word.startswith("hydra/sweeper=") for word in words):
        return
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if "interval(" in value and _parsed(f"{key}={value}").is_interval_sweep():
            raise UserError(
                f"{key}={value} is an interval, and a sweep tries the values it is given: list them, as -m {key}=0.01,0.03,0.1, "
                "or write range(start,stop,step). Intervals are for a sweeper that searches, chosen by hydra/sweeper=..."
            )


def _refuse_underflow(key: str, value: str) -> None:
    """Refuse a number that is not 0 as it is written and 0 as a float."""
    for number in _NUMBERS.finditer(value):
        if re.search("[1-9]", re.split("e", number[0], flags=re.IGNORECASE)[0]) and float(number[0]) == 0:
            raise UserError(f"{key}={value}: {number[0]} is 0 as a floating-point number; write 0 where 0 is meant")


def _refuse_one_rate_of_several(seen: dict[str, str]) -> None:
    """Refuse a sweep over rates of noise beside ``noise.rate``, which would replace each of them."""
    listed = seen.get("noise", "").split(",")
    if "noise.rate" in seen and len(listed) > 1 and any(NUMBER.fullmatch(item.strip()) for item in listed):
        raise UserError(
            f"noise={','.join(listed)} are several rates, and noise.rate={seen['noise.rate']} would replace them all: keep one"
        )


def _deletion(word: str) -> UserError:
    """Return why an option cannot be taken away."""
    key = word.removeprefix("~").partition("=")[0]
    instead = {"noise": "noise=none", "trainer.epochs": "trainer.steps=1000", "trainer.steps": "trainer.epochs=20"}
    write = instead.get(key, f"{key}=<choice>" if key in GROUPS else f"{key}=<value>")
    return UserError(
        f"{word} would change nothing: an option that is deleted has its default again. Write its value: {write}"
    )


def quoted(text: str) -> str:
    """Return a text as Hydra reads it back from a word, whatever characters it has."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return f"'{escaped}'"


def explain(error: HydraException | OmegaConfBaseException) -> UserError:
    """Return Hydra's or OmegaConf's error in this project's words."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing_choice(error.missing_cfg_file, error.options or ())
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    text = str(error) or str(error.__cause__)
    if unset := re.search(r"Environment variable '(?P<name>[^']*)' not found\W+full_key: (?P<key>\S+)", text):
        return UserError(
            f"{unset['key']}: the environment variable {unset['name']} is not set. Set it, or give a value to take without it: "
            f"{unset['key']}=${{oc.env:{unset['name']},<value>}}"
        )
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


def _missing_choice(path: str, options: Iterable[str]) -> UserError:
    group, _, name = path.partition("/")
    if group == "hydra":
        group, _, name = path.rpartition("/")
        return UserError(f"unknown {group} '{name}': {nearest(name, options)}")
    if group == "" or group not in (*GROUPS, *OVERLAYS):
        return UserError(f"no configuration file {path}.yaml; groups: {', '.join((*GROUPS, *OVERLAYS))}")
    if group in registry.HOMES and (instead := registry.renamed(group, name)):
        return UserError(f"{group}={name}: {instead}")
    also = {"noise": ", or a rate such as 0.4", "arch": "; any timm model: arch=timm arch.name=resnet18"}.get(group, "")
    return UserError(f"unknown {group} '{name}': {nearest(name, choices(group))}{also}")


def _unreadable(word: str) -> UserError:
    shown = plain(word)
    key, equals, value = shown.partition("=")
    if not equals:
        return UserError(
            f"cannot read '{shown}': settings are written key=value, for example optimizer.lr=0.1 or rule=bp"
        )
    if not re.fullmatch(r"[~+]{0,2}\w[\w./@-]*(?<![./])", key):
        return UserError(f"cannot read '{shown}': '{key}' is no name; settings are written key=value without spaces")
    if re.search(r"(^|,)\s*(,|$|\))", value):
        listed = ",".join(item for item in value.split(",") if item.strip())
        return UserError(
            f"cannot read '{shown}': there is an empty value before or after a comma; write {key}={listed}"
        )
    if "=" in value and not re.search("[\"'{]", value):
        return UserError(f"cannot read '{shown}': a value with = in it needs quotes: \"{key}='{value}'\"")
    function = _FUNCTION.match(value)
    if function and function[1] not in _FUNCTIONS:
        return UserError(
            f"cannot read '{shown}': there is no function '{function[1]}'; {nearest(function[1], _FUNCTIONS)}. For a text with "
            f"brackets put quotes around it: \"{key}='{value}'\""
        )
    if function and function[1] == "tag":
        return UserError(f"cannot read '{shown}': tag() is of a sweep, as {key}=tag(name,choice(1,2))")
    return UserError(
        f"cannot read '{shown}': the value {value!r} has an open bracket, quote or a special character; "
        f"put the whole in quotes for the shell and the text in quotes inside: \"{key}='...'\""
    )
