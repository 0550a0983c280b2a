"""Which run is this: a readable name and a hash of everything that decides the result."""

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from credit.config.folders import rule_settings
from credit.config.schema import RunConfig
from credit.config.validate import relevant
from credit.records.versions import versions

UNDECIDING = {"trainer": ("progress", "threads", "checkpoint_every", "replicate"), "data": ("root", "download")}
"""Options by group that leave the result as it is."""

YOUNGER_THAN_WARM_STARTS: dict[str, Any] = {
    "fgsm_epsilon": None, "adversarial_share": 1.0, "unreached": "refuse",
}  # fmt: skip
"""Options of rules that are left out of a warm start's too, where they say what it did."""

UNSAID: dict[str, dict[str, Any]] = {
    "trainer": {
        "warm_rule": None, "warm_steps": None, "measure_first": 0, "fgsm_epsilon": [0.01],
        "stop_when": "never", "collapse_share": 0.5, "collapse_after": 5.0,
    },
    "data": {
        "resize": None, "classes": None, "val_split": "stratified", "val_size": None, "preprocess": "none", "zca_epsilon": 0.1,
        "hold": "decoded", "alpha": "refuse",
    },
    "rule": {"clip_unit": None, **YOUNGER_THAN_WARM_STARTS},
    "arch": {"zero_init_last": None, "init_std": None, "residual_gap": 0},
    "schedule": {"unit": "epochs", "initial_lr": 0.0, "decay_epochs": None},
}  # fmt: skip
"""Options by group that are younger than many a run: where they say what it did they are left out, and it keeps its name."""

UNSAID_BY_KIND: dict[tuple[str, str], dict[str, Any]] = {
    ("arch", "cifar_resnet"): {"norm": "batch", "init": "he"},
    ("arch", "lenet5"): {"init": "torch"},
    ("arch", "mlp"): {"init": "torch"},
    ("arch", "vgg16"): {"init": "he"},
}
"""The same, where another kind of the group has had an option of this name for as long as there are runs of it."""

_PREFIX_LENGTH = 100


def decisive(cfg: RunConfig) -> dict[str, Any]:
    """Return the part of a configuration that decides the result, as plain JSON values.

    Left out: mirrors, the progress bar, threads, where the data lies and how it came there, how often checkpoints are
    written, the seeds it is trained together with, options that the chosen kinds do not read. Two spellings of one run
    are made equal: noise of rate 0 is no noise, and 1.0 is 1.
    """
    plain = relevant(cfg)
    warm = plain["trainer"].get("warm_rule")
    changed = versions(
        {**plain, "trainer": {**plain["trainer"], "warm_rule": warm and (rule_settings(warm) or {"kind": warm})}}
    )
    del plain["logger"]
    plain["replicas"] = 1  # whatever it was trained together with, a run is one seed
    del plain["rerun"], plain["resume"]
    for group, keys in UNDECIDING.items():
        for key in keys:
            del plain[group][key]
    by_kind = [(group, usual) for (group, kind), usual in UNSAID_BY_KIND.items() if plain[group]["kind"] == kind]
    for group, usual in [*UNSAID.items(), *by_kind]:
        for key, value in usual.items():
            if key in plain[group] and plain[group][key] == value:
                del plain[group][key]
    if "warm_rule" in plain["trainer"]:  # the options that its name stands for decide, not the name
        warm = plain["trainer"]["warm_rule"]
        settings = rule_settings(warm) or {}
        said = {key: value for key, value in settings.items() if (key, value) not in YOUNGER_THAN_WARM_STARTS.items()}
        plain["trainer"]["warm_rule"] = said or warm
    _settle_weights(plain["arch"])
    if plain["data"].get("classes"):  # folders are taken in the order of their names
        plain["data"]["classes"] = sorted(plain["data"]["classes"])
    if is_clean(plain):
        plain["noise"] = {"kind": "none"}
    if changed:
        plain["versions"] = changed
    settled: dict[str, Any] = _plain_numbers(plain)
    return settled


def _settle_weights(arch: dict[str, Any]) -> None:
    """Put the digest of a file of weights in place of its path; without weights, say nothing of them."""
    pretrained = arch.get("pretrained")
    if pretrained is False and arch["kind"] != "timm":  # younger than many a run of the other kinds
        del arch["pretrained"]
    elif isinstance(pretrained, str):
        file = Path(pretrained).expanduser()
        if file.is_file():  # a missing one is refused where the network is built
            stat = file.stat()
            arch["pretrained"] = f"sha256:{file_digest(file.resolve(), stat.st_size, stat.st_mtime_ns)}"


@functools.lru_cache(maxsize=4096)
def file_digest(file: Path, size: int, changed: int) -> str:
    """Return a file's SHA-256; its size and time of change are there to tell a new content from the one that is known."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_clean(config: dict[str, Any]) -> bool:
    """Say whether a configuration (plain mapping) leaves every label as it is."""
    return config["noise"]["kind"] == "none" or not config["noise"].get("rate")


def run_name(cfg: RunConfig) -> str:
    """Return the run's name, for example ``lisp_margin-mlp-digits-symmetric0.4-s0-3f2a91c07b``."""
    return f"{_prefix(cfg)}-s{cfg.seed}-{run_hash(cfg)}"


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
    words = {**labels(cfg.as_dict()), "data": data_label(cfg)}
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
