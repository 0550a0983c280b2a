"""Which run is this: a readable name and a hash of everything that decides the result."""

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from credit.core.config.defaults import Options, arch_options, rule_options, section_options
from credit.core.config.folders import rule_settings
from credit.core.config.schema import OPEN_GROUPS, SECTIONS, RunConfig
from credit.core.config.validate import relevant
from credit.runs.named import NAMED
from credit.runs.versions import versions

SPELLINGS: dict[str, tuple[Any, Any]] = {"rule.composite": (None, {})}
"""Options of which two values are the same: the first is taken for the second."""

_PREFIX_LENGTH = 100


def decisive(cfg: RunConfig, *, speed: bool = False) -> dict[str, Any]:
    """Return the part of a configuration that decides the result, as plain JSON values: what the run's hash is made of.

    An option at its default and one that is not given are the same (see `credit.runs.named` for which of the two is
    written). Left out are options that the chosen kinds do not read, mirrors, the seeds that the run is trained together with,
    and options marked ``result=False``: of the progress bar, of where the data lies, of checkpoints, and of speed. Those of
    speed (``rule.sparse``, ``rule.workers``, ``data.eval_batch_size``, ``trainer.threads``, ``trainer.device``,
    ``trainer.compile``) change the order of summation and so the result to rounding, about 1e-7 of it in float32 and step; all
    others leave it bit for bit as it is. Noise of rate 0 is no noise, and 1.0 is 1. Changed components of this package add
    their versions (`credit.runs.versions`).

    Args:
        cfg: the run.
        speed: keep the values of the options of speed, for what is measured of a run's time.
    """
    plain = relevant(cfg)
    del plain["logger"], plain["rerun"], plain["resume"]
    plain["replicas"] = 1  # whatever it was trained together with, a run is one seed
    warm = plain["trainer"].get("warm_rule")
    settings = rule_settings(warm) if warm else None
    changed = versions(_completed(plain, settings or {"kind": warm}))
    _settle_weights(plain["arch"])
    if plain["data"].get("classes"):  # folders are taken in the order of their names
        plain["data"]["classes"] = sorted(plain["data"]["classes"])
    plain["rule"] = _settled("rule", plain["rule"], speed)
    plain["arch"] = _settled("arch", plain["arch"], speed)
    for group in SECTIONS.keys() & plain.keys():
        plain[group] = _settled(group, plain[group], speed)
    _write_older(plain["rule"], plain["arch"])
    if settings is not None:  # the options that its name stands for decide, not the name
        plain["trainer"]["warm_rule"] = _settled("rule", settings, speed, more=("clip_unit",))
        _write_older(plain["trainer"]["warm_rule"], {})
    if is_clean(plain):
        plain["noise"] = {"kind": "none"}
    if changed:
        plain["versions"] = changed
    settled: dict[str, Any] = _plain_numbers(plain)
    return settled


def undeciding(config: dict[str, Any]) -> set[str]:
    """Return the dotted names of a configuration's options (plain mapping) that do not decide the result."""
    return {
        f"{group}.{name}"
        for group, section in config.items()
        if isinstance(section, dict) and group in (*OPEN_GROUPS, *SECTIONS)
        for name, option in _options(group, section).items()
        if not option.result
    }


def _options(group: str, section: dict[str, Any]) -> Options:
    """Return the options of a section's kind with their defaults, as far as they are known without torch."""
    if group == "rule":
        return rule_options(str(section.get("kind")))
    return arch_options(str(section.get("kind"))) if group == "arch" else section_options(group)


def _completed(plain: dict[str, Any], warm: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the defaults of options that are not given, and the rule of its warm start."""
    whole = {**plain, "trainer": {**plain["trainer"], "warm_rule": warm}}
    for group in OPEN_GROUPS:
        whole[group] = {name: option.default for name, option in _options(group, plain[group]).items()} | plain[group]
    return whole


def _settled(group: str, section: dict[str, Any], speed: bool, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a section with one spelling for what is one run.

    Args:
        group: the section's name.
        section: its options.
        speed: keep the values of the options of speed.
        more: options that are written too, whatever their value.
    """
    options = _options(group, section)
    named = [*NAMED.get(f"{group}.{section['kind']}" if group in OPEN_GROUPS else group, "").split(), *more]
    missing = {name: options[name].default for name in named if name in options} if group in OPEN_GROUPS else {}
    settled = {}
    for name, value in {**missing, **section}.items():
        option = options.get(name)
        if option is not None and not (option.result or (speed and name in named)):
            value = option.default
        same, written = SPELLINGS.get(f"{group}.{name}", (None, None))
        value = written if f"{group}.{name}" in SPELLINGS and value == same else value
        if option is None or name in named or value != option.default:
            settled[name] = value
    return settled


def _write_older(rule: dict[str, Any], arch: dict[str, Any]) -> None:
    """Write settled options that have other names or defaults now, and do what they did, as the names of older runs do."""
    if rule.get("loss") == "half_sse":
        rule["loss"] = "mse"
    if rule["kind"] == "sweep" and "low" in rule:
        ends = [rule["low"], rule["high"]]
        rule |= {"low": rule.pop("noise_low", 0.0), "high": rule.pop("noise_high", 1.0)}
        if ends != [None, None]:
            rule["ends"] = ends
    if "surrogate_slope" in arch and arch["surrogate_slope"] is None and "surrogate" not in arch:
        arch["surrogate_slope"] = 25.0


def _settle_weights(arch: dict[str, Any]) -> None:
    """Put the digest of a file of weights in place of its path."""
    pretrained = arch.get("pretrained")
    if isinstance(pretrained, str):
        file = Path(pretrained).expanduser()
        if file.is_file():  # a missing one is refused where the network is built
            arch["pretrained"] = f"sha256:{file_digest(file.resolve(), file.stat().st_ctime_ns)}"


@functools.lru_cache(maxsize=4096)
def file_digest(file: Path, changed: int) -> str:
    """Return a file's SHA-256; `changed`, its time of change, distinguishes a new content from the one that is known."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_clean(config: dict[str, Any]) -> bool:
    """Say whether a configuration (plain mapping) leaves every label as it is."""
    return config["noise"]["kind"] == "none" or not config["noise"].get("rate")


def run_name(cfg: RunConfig, *, speed: bool = False) -> str:
    """Return the run's name, for example ``lisp_margin-mlp-digits-symmetric0.4-s0-3f2a91c07b``; for `speed` see `decisive`."""
    return f"{_prefix(cfg)}-s{cfg.seed}-{short_digest(decisive(cfg, speed=speed))}"


def group_name(cfg: RunConfig) -> str:
    """Return the name shared by the runs that differ in their seed alone."""
    without_seed = decisive(cfg)
    del without_seed["seed"]
    return f"{_prefix(cfg)}-{short_digest(without_seed)}"


def run_hash(cfg: RunConfig) -> str:
    """Return ten hexadecimal digits that stand for everything that decides the result."""
    return short_digest(decisive(cfg))


def labels(config: dict[str, Any]) -> dict[str, str]:
    """Return the short words people know a run by: rule, arch, data, noise (``clean`` without any)."""
    rule, arch, data, noise = config["rule"], config["arch"], config["data"], config["noise"]
    return {
        "rule": str(rule.get("name") or rule["kind"]),
        "arch": str(arch.get("name") or arch["kind"]),
        "data": f"{data['kind']}_{data['name']}" if data.get("name") else str(data["kind"]),
        "noise": "clean" if is_clean(config) else f"{noise['kind']}{noise['rate']:g}",
    }


def data_label(cfg: RunConfig) -> str:
    """Return a run's data set as names of folders have it: ``digits``, ``tabular_iris-f2``."""
    label = labels(cfg.as_dict())["data"]
    return f"{label}-f{cfg.data.fold}" if cfg.data.name else label


def _prefix(cfg: RunConfig) -> str:
    arch = _settled("arch", cfg.arch, speed=False)  # with its name, also where that is the default
    words = {**labels({**cfg.as_dict(), "arch": arch}), "data": data_label(cfg)}
    if words["noise"] == "clean":
        del words["noise"]
    readable = "-".join(words.values())
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", readable)[:_PREFIX_LENGTH]


def short_digest(value: dict[str, Any]) -> str:
    """Return ten hexadecimal digits that stand for plain JSON values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _plain_numbers(value: Any) -> Any:
    """Write whole floats as integers: YAML's ``epochs: 20`` and the command line's ``20.0`` are one run."""
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
