"""Record what a run was made from (``made_from.json`` in its folder): the user's code, this package's code, the data's files.

Before a finished run is reused or an unfinished one resumes, the record is compared with the present code and data. Imports no
torch.

| changed | finished run | unfinished run |
|---|---|---|
| the data, the user's code | refused | refused |
| this package's code | reused, with a warning | refused |

``rerun=true`` trains anew, ``rerun=changed`` trains anew only a run that would be refused, and ``resume=anyway`` resumes an
unfinished run with changed code (never with changed data) and notes that in its checkpoints and its result. A run folder without
a record predates records: nothing is compared, and a line is printed.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from credit.core.config.data_files import data_files
from credit.core.config.folders import rule_settings
from credit.core.config.schema import RunConfig
from credit.core.errors import UserError
from credit.core.writing import write_json
from credit.runs.folder import EARLIER, read_json
from credit.runs.identity import file_digest
from credit.runs.user_code import package_code, present_code, user_code, words_of

MADE_FROM = "made_from.json"
LARGEST = 4 * 2**30
"""Bytes of a data set up to which its files' contents are digested; of a larger one only sizes and times are recorded."""

Group = dict[str, Any]
"""The record of one file of the data, or of the files of one folder: ``files`` (their number), ``bytes``, ``stat`` (digest of
sizes and times of modification), ``changed`` (digest of the times of change, which copies and archives do not preserve) and
``content`` (digest of names and contents, or None)."""


@dataclasses.dataclass
class Changes:
    """Descriptions of the differences between a run's record and the present code and data.

    Attributes:
        data, code, package: changes of the data, of the user's code, of this package's code; one text a file.
        recorded: whether the run has a record.
    """

    data: list[str] = dataclasses.field(default_factory=list)
    code: list[str] = dataclasses.field(default_factory=list)
    package: list[str] = dataclasses.field(default_factory=list)
    recorded: bool = True

    @property
    def decisive(self) -> list[str]:
        """The changes that forbid the reuse of a finished run: those of the data and of the user's code."""
        return [*self.data, *self.code]


def made_from(cfg: RunConfig) -> dict[str, Any]:
    """Return the record of a run's code and data. Call it after the run's components were built and its data was read.

    Raises:
        UserError: the user's code was edited after this process had imported it.
    """
    warm = cfg.trainer.warm_rule
    settings = rule_settings(warm) if warm else None
    kinds = [section.kind for section in (cfg.data, cfg.noise, cfg.optimizer, cfg.schedule)]
    words = words_of([cfg.rule, cfg.arch, warm, settings, cfg.trainer.measure, kinds])
    files = data_files(cfg.data, cfg.noise)
    contents = _bytes(files) <= LARGEST
    data = {name: _group(group, contents) for name, group in files.items()}
    return {"code": user_code(words), "package": package_code(), "data": data}


def write_made_from(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a run's record to ``made_from.json`` in its folder."""
    write_json(folder / MADE_FROM, record)


def changes(folder: Path, cfg: RunConfig, seen: dict[str, Any] | None = None) -> Changes:
    """Return the changes of code and data since the record in a run's folder was written.

    Args:
        folder: the run's folder.
        cfg: the run's configuration.
        seen: a cache of files' sizes and times, filled here; runs on the same data that share it read them once.

    Raises:
        UserError: the record is damaged.
    """
    remedy = f"delete {folder} to start this run anew"
    record = read_json(folder / MADE_FROM, remedy)
    if record is None:
        return Changes(recorded=False)
    if missing := [part for part in ("code", "package", "data") if part not in record]:
        raise UserError(f"{folder / MADE_FROM} is damaged (it has no {', '.join(missing)}); {remedy}")
    code = present_code(record["code"])
    found = compared(record, {"code": {key: {"sha256": now} for key, now in code.items()}, "package": package_code()})
    return dataclasses.replace(found, data=_data_changes(record["data"], *_seen(cfg, {} if seen is None else seen)))


def compared(then: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """Return the changes of code between two records; data are not compared.

    Args:
        then, now: records with ``code`` (``{name: {"sha256": digest}}``) and ``package`` (``{path: digest}``).
    """
    before, after = ({key: entry["sha256"] for key, entry in record["code"].items()} for record in (then, now))
    package = _differing(then["package"], now["package"])
    return Changes(code=_differing(before, after), package=[f"credit/{words}" for words in package])


def refuse_reuse(folder: Path, found: Changes) -> None:
    """Refuse to reuse a finished run whose data or user's code have changed.

    Raises:
        UserError: data or user's code have changed; the message names the changes.
    """
    if found.decisive:
        raise UserError(
            f"{folder} is complete, but not of what is there now: {_some(found.decisive)}. Put it back, or write rerun=true to "
            "train anew (rerun=changed: in a sweep or a table, those alone of which something changed); the old files are kept "
            f"in {folder.parent / EARLIER}"
        )


def refuse_resumption(where: Path, found: Changes, resume: str) -> None:
    """Refuse to resume a run whose data or code have changed since it began.

    Args:
        where: the run's folder or its checkpoint.
        found: the changes.
        resume: the option ``resume``; ``anyway`` permits changed code.

    Raises:
        UserError: data have changed, or code has and `resume` does not permit it; the message names the changes.
    """
    anyway = resume == "anyway"
    if found.data or (not anyway and (found.code or found.package)):
        mixed = "" if found.data else ", or resume=anyway to go on (its result will say so)"
        raise UserError(
            f"{where} was begun with something else than is there now: {_some([*found.decisive, *found.package])}. Going on would "
            f"mix the two. Put it back, or write rerun=true to start anew{mixed}"
        )


def words_about_package(found: Changes) -> str:
    """Return a warning about a finished run without a record or from other code of this package; empty for any other run."""
    if not found.recorded:
        return "made before runs recorded their code and data, so neither could be compared"
    if found.package:
        return f"made with another version of credit's code ({_some(found.package)}); rerun=true trains anew"
    return ""


def _some(words: Sequence[str], most: int = 4) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _differing(then: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    """Return one text for each file that differs: whether it is new, gone or edited."""
    told = []
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            what = "is new" if key not in then else "is gone" if now.get(key) is None else "was edited"
            told.append(f"{key} {what}")
    return told


def _seen(cfg: RunConfig, seen: dict[str, Any]) -> tuple[dict[str, list[Path]], dict[str, Group]]:
    """Return a data set's files by name, and their records without digests of their contents."""
    key = repr((cfg.data, cfg.noise))
    if key not in seen:
        files = data_files(cfg.data, cfg.noise)
        seen[key] = files, {name: _group(paths, contents=False) for name, paths in files.items()}
    found: tuple[dict[str, list[Path]], dict[str, Group]] = seen[key]
    return found


def _data_changes(then: Mapping[str, Group], files: Mapping[str, list[Path]], now: Mapping[str, Group]) -> list[str]:
    """Return one text for each change of a data set's files; none where no file exists (any more)."""
    told = []
    for name in sorted({*then, *now}) if now else []:
        before, after = then.get(name), now.get(name)
        if before is None or after is None:
            told.append(f"data {name} is {'new' if before is None else 'gone'}")
        elif _is_changed(before, after, files[name]):
            told.append(f"data {name} changed ({_sizes(before, after)})")
    return told


def _is_changed(then: Group, now: Group, files: Sequence[Path]) -> bool:
    if then["content"] is None:
        return bool(now["stat"] != then["stat"])
    same = now["stat"] == then["stat"] and now["changed"] == then.get("changed")
    return not same and _content(files) != then["content"]


def _sizes(then: Group, now: Group) -> str:
    before, after = (f"{one['files']} file{'s' * (one['files'] != 1)} of {one['bytes']:,} bytes" for one in (then, now))
    return f"{before}, with other contents" if before == after else f"{before} then, {after} now"


def _bytes(files: Mapping[str, Sequence[Path]]) -> int:
    return sum(path.stat().st_size for group in files.values() for path in group)


def _group(paths: Sequence[Path], contents: bool) -> Group:
    stats = [(path, path.stat()) for path in paths]
    return {
        "files": len(paths),
        "bytes": sum(stat.st_size for _, stat in stats),
        "stat": _digest(f"{path.name} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats),
        "changed": _digest(str(stat.st_ctime_ns) for _, stat in stats),
        "content": _content(paths) if contents else None,
    }


def _content(paths: Sequence[Path]) -> str:
    """Return the digest of files' names and contents."""
    return _digest(f"{path.name} {file_digest(path.resolve(), path.stat().st_ctime_ns)}" for path in paths)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()[:16]
