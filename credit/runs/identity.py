"""The identity of a run: a readable name and a hash of every option that decides the result.

The hash covers each group's kind, its options that decide the result and differ from their defaults, and the versions of
components above 1 (`credit.core.registry.Component`). An option at its default and one that is not given are therefore the same,
and a new option renames no run.
"""

import contextlib
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from credit.core.config.data_files import noise_file
from credit.core.config.folders import rule_settings
from credit.core.config.schema import GROUPS, OPEN_GROUPS, RATELESS, SECTIONS, RunConfig
from credit.core.config.validate import option_set
from credit.core.errors import UserError
from credit.core.option_sets import OptionSet
from credit.core.options import of_class
from credit.core.registry import known
from credit.runs.places import RESULT, find_run

_PREFIX_LENGTH = 100


def decisive(cfg: RunConfig, *, speed: bool = False) -> dict[str, Any]:
    """Return the part of a configuration that decides the result, as plain JSON values. The run's hash is computed from it.

    Left out are options at their defaults, options that the chosen kinds do not read, the logger, the seeds that the run is trained
    together with, and options defined with ``result=False``: the progress bar, the folder of the data, checkpoints, and speed.
    Options of speed (``rule.sparse``, ``rule.workers``, ``data.eval_batch_size``, ``trainer.threads``, ``trainer.device``,
    ``trainer.compile``) change the order of summation, and with it the result by rounding: a relative 1e-7 a step in float32. All
    other options left out keep the result bit for bit. Noise of rate 0 equals no noise, and 1.0 equals 1.

    Args:
        cfg: the run's configuration.
        speed: keep the options of speed; for measurements of a run's time.
    """
    found: dict[str, Any] = {"seed": cfg.seed}
    for group in (one for one in GROUPS if one != "logger"):
        found[group] = _deciding(group, _values(cfg, group), speed)
    _digest_weights(found["arch"])
    if (origin := found["trainer"].get("init_from")) is not None:
        found["trainer"]["init_from"] = _weights_of(origin)
    if "path" in found["noise"] and (file := noise_file(cfg.noise, cfg.data)) is not None:
        found["noise"]["path"] = _content(file)
    if "classes" in found["data"]:  # the order of folders of classes does not matter
        found["data"]["classes"] = sorted(found["data"]["classes"])
    warm = found["trainer"].get("warm_rule")
    settings = rule_settings(warm) if warm else None
    if settings is not None:  # its options decide the result, not its name
        options = {name: value for name, value in settings.items() if name not in ("kind", "name")}
        checked = option_set("rule", settings["kind"]).check(options, f"rule '{warm}'")
        found["trainer"]["warm_rule"] = _deciding("rule", {"kind": settings["kind"], **checked}, speed)
    if is_clean(found):
        found["noise"] = {"kind": "none"}
        found["data"].pop("val_noise", None)
    settled: dict[str, Any] = _plain_numbers(found)
    return settled


def _values(cfg: RunConfig, group: str) -> dict[str, Any]:
    section = getattr(cfg, group)
    return section if group in OPEN_GROUPS else {name: getattr(section, name) for name in of_class(type(section))}


def _deciding(group: str, values: dict[str, Any], speed: bool) -> dict[str, Any]:
    named = {name: values[name] for name in ("kind", "name") if name in values and group != "data"}
    if group == "data":
        named = {"kind": values["kind"]}
    return named | option_set(group, values.get("kind", "")).decisive(values, speed=speed)


def undeciding(config: dict[str, Any]) -> set[str]:
    """Return the dotted names of a configuration's options (plain mapping) that do not decide the result."""
    return {
        f"{group}.{option.name}"
        for group in GROUPS
        if isinstance(config.get(group), dict)
        for option in _options(group, config[group])
        if not option.meta.result
    }


def _options(group: str, section: dict[str, Any]) -> list[Any]:
    """Return the options that a section could have; none for a kind that is not registered (any more)."""
    if group in SECTIONS:
        return list(of_class(SECTIONS[group]).values())
    kind = known(group, section.get("kind"))
    return list(OptionSet(group, kind.options, kind.name).every()) if kind else []


def _digest_weights(arch: dict[str, Any]) -> None:
    """Replace the path of a file of weights by the digest of the file's content, in place."""
    pretrained = arch.get("pretrained")
    if isinstance(pretrained, str):
        file = Path(pretrained).expanduser()
        if file.is_file():  # a missing file is refused when the network is built
            arch["pretrained"] = _content(file)


def _weights_of(run: str) -> str:
    """Return the digest of a finished run's last weights, in place of its name; the name where there is no such run."""
    with contextlib.suppress(UserError, OSError, ValueError, KeyError, TypeError):
        return f"sha256:{json.loads((find_run(run) / RESULT).read_text())['weights_sha256']}"
    return run  # refused when the run is prepared


def _content(file: Path) -> str:
    """Return the digest of a file's content, in place of the file's path."""
    return f"sha256:{file_digest(file.resolve(), file.stat().st_ctime_ns)}"


@functools.lru_cache(maxsize=4096)
def file_digest(file: Path, changed: int) -> str:
    """Return a file's SHA-256 as hexadecimal digits, cached by path and time of change.

    Args:
        file: the file's resolved path.
        changed: the file's time of change (``st_ctime_ns``, in nanoseconds); another time is digested anew.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_clean(config: dict[str, Any]) -> bool:
    """Return whether a configuration (plain mapping) adds no label noise: of kind ``none``, or of a rate that is 0."""
    noise = config["noise"]
    return noise["kind"] == "none" or not (noise.get("rate") or noise["kind"] in RATELESS)


def run_name(cfg: RunConfig, *, speed: bool = False) -> str:
    """Return the run's name, for example ``lisp_margin-mlp-digits-symmetric0.4-lr0.1-e3-s0-3f2a91c07b``.

    Options with a `short` prefix that differ from their defaults are written out: ``lr``, ``e`` (epochs), ``n`` (steps).
    See `decisive` for `speed`.
    """
    return f"{_prefix(cfg)}-s{cfg.seed}-{short_digest(decisive(cfg, speed=speed))}"


def group_name(cfg: RunConfig) -> str:
    """Return the name shared by the runs that differ only in their seed."""
    without_seed = decisive(cfg)
    del without_seed["seed"]
    return f"{_prefix(cfg)}-{short_digest(without_seed)}"


def run_hash(cfg: RunConfig) -> str:
    """Return the run's hash: ten hexadecimal digits of the options that decide the result (`decisive`)."""
    return short_digest(decisive(cfg))


def labels(config: dict[str, Any]) -> dict[str, str]:
    """Return the short labels of a run by group: ``rule``, ``arch``, ``data`` and ``noise`` (``clean`` without label noise).

    Args:
        config: the run's configuration as a plain nested mapping.
    """
    rule, arch, data, noise = config["rule"], config["arch"], config["data"], config["noise"]
    return {
        "rule": str(rule.get("name") or rule["kind"]),
        "arch": str(arch.get("name") or arch["kind"]),
        "data": f"{data['kind']}_{data['name']}" if data.get("name") else str(data["kind"]),
        "noise": "clean" if is_clean(config) else noise["kind"] + _amount(noise),
    }


def _amount(noise: dict[str, Any]) -> str:
    """Return what of a noise its label says behind the kind: ``0.4``, or of human labels which, ``_worse``."""
    if noise["kind"] in RATELESS:
        return f"_{noise['labels']}" if noise.get("labels") else ""
    return f"{noise['rate']:g}"


def data_label(cfg: RunConfig) -> str:
    """Return the label of a run's data set in names of folders: ``digits``, ``tabular_iris-f2`` (fold 2)."""
    label = labels(cfg.as_dict())["data"]
    return f"{label}-f{cfg.data.fold}" if cfg.data.kind == "tabular" else label


def _prefix(cfg: RunConfig) -> str:
    words = {**labels(cfg.as_dict()), "data": data_label(cfg)}
    if words["noise"] == "clean":
        del words["noise"]
    readable = "-".join([*words.values(), *_differences(cfg)])
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", readable)[:_PREFIX_LENGTH]


def _differences(cfg: RunConfig) -> list[str]:
    """Return the options with a short prefix that differ from their defaults, as ``lr0.1``."""
    return [
        f"{one.meta.short}{getattr(cfg_section, name):g}"
        for cfg_section in (cfg.data, cfg.optimizer, cfg.trainer)
        for name, one in of_class(type(cfg_section)).items()
        if one.meta.short and getattr(cfg_section, name) not in (None, one.default)
    ]


def short_digest(value: dict[str, Any]) -> str:
    """Return ten hexadecimal digits of the SHA-256 of plain JSON values; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _plain_numbers(value: Any) -> Any:
    """Convert whole floats to integers, so that YAML's ``epochs: 20`` and the command line's ``20.0`` name the same run."""
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
