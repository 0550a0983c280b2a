"""``credit-train``: a Hydra application that composes, checks and trains a run; ``-m`` runs a sweep."""

import contextlib
import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from credit.cli.failures import reported
from credit.core.errors import DIVERGED, OK, UserError, nearest
from credit.core.processes import world_size
from credit.core.user_files import use_folders
from credit.runs.places import runs_root
from credit.runs.provenance import COMMAND, environment, job_command, note_job_commands

_WORDS = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("defaults-tree", "defaults", "config", "searchpath", "plugins", "all"),
}
_LONG = {
    "-h": "--help",
    "-m": "--multirun",
    "-r": "--run",
    "-sc": "--shell-completion",
    "-c": "--cfg",
    "-p": "--package",
}
_LONG |= {"-i": "--info", "-cd": "--config-dir", "-cn": "--config-name", "-cp": "--config-path"}
_ALONE = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")
"""Flags that exclude each other."""

FLAGS = {
    **dict.fromkeys(("-h", "--help", "--version", "-m", "--multirun", "-r", "--run", "--resolve", "--hydra-help"), ""),
    **dict.fromkeys(("-sc", "--shell-completion"), ""),
    **dict.fromkeys(("-c", "--cfg"), "job, hydra or all"),
    **dict.fromkeys(("-p", "--package"), "a group, for example arch"),
    **dict.fromkeys(("-i", "--info"), "defaults-tree, defaults, config, searchpath, plugins or all"),
    **dict.fromkeys(("-cd", "--config-dir"), "a folder, with my_conf/rule/mine.yaml in it for example"),
}
"""Flags of `credit-train` (Hydra's without those that move its folders), with the argument each requires, if any."""


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code, of those in `credit.core.errors`.

    Args:
        argv: the arguments behind the command's name; None for those of the command line.
    """
    words = sys.argv[1:] if argv is None else argv
    with environment(**{COMMAND: shlex.join(["credit-train", *words])}):  # for provenance, in a sweep's processes too
        return reported("credit-train", lambda: _main(words))


def _main(argv: list[str]) -> int:
    if "-h" in argv or "--help" in argv:
        from credit.cli.usage import train_help

        use_folders(take_folders(argv)[1])
        print(train_help())
        return 0
    if "--version" in argv:
        from credit.core.config.folders import credit_version

        print(f"credit {credit_version()}")
        return 0
    words, folders = take_folders(argv)
    use_folders(folders)
    words = _flags_first(words)
    _refuse_flags(words)
    if "--shell-completion" in words or "-sc" in words:
        return _run_hydra(words)
    from credit.core.config.overrides import rewrite

    words = rewrite(words)
    _refuse_launcher_of_one_run(words)
    return _show_config(words) if _shows_job(words) else _run(words)


def take_folders(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the words without ``--config-dir DIR``, which may be repeated, and the folders.

    Raises:
        UserError: a ``--config-dir`` has no folder.
    """
    words, folders = [], []
    rest = iter(argv)
    for word in rest:
        if word in ("--config-dir", "-cd"):
            folders.append(_word_of(word, next(rest, None)))
        elif word.startswith("--config-dir="):
            folders.append(word.partition("=")[2])
        else:
            words.append(word)
    return words, folders


def _flags_first(words: list[str]) -> list[str]:
    """Return the words with flags and their arguments before the settings, because Hydra refuses a mixture.

    Raises:
        UserError: a flag does not exist or lacks its argument.
    """
    flags, settings = [], []
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if not word.startswith("-"):
            settings.append(word)
        elif _LONG.get(name, name) in ("--config-name", "--config-path"):
            raise UserError(
                f"{name}: there is one configuration, of this package; choices of your own are in --config-dir DIR"
            )
        elif name not in FLAGS:
            hint = nearest(word, [flag for flag in FLAGS if flag.startswith("--")])
            raise UserError(f"unknown flag '{word}': {hint}. Settings are written without dashes: seed=1")
        elif FLAGS[name] and not equals:
            flags += [word, _word_of(word, next(rest, None))]
        else:
            flags.append(word)
    return [*flags, *settings]


def _refuse_flags(words: list[str]) -> None:
    """Refuse flags that exclude each other or require another one, and invalid arguments of flags.

    Args:
        words: the words as of `_flags_first`.

    Raises:
        UserError: naming the flags.
    """
    given: dict[str, str] = {}
    for word, after in zip(words, [*words, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            given[_LONG.get(name, name)] = value if equals else after
    alone = [flag for flag in given if flag in _ALONE]
    if len(alone) > 1:
        raise UserError(f"{' and '.join(alone)} are given together, and each is a command of its own: keep one")
    for flag in ("--resolve", "--package"):
        if flag in given and "--cfg" not in given:
            raise UserError(
                f"{flag} is about what --cfg prints, and changes no run: write --cfg job {flag}, or leave it out"
            )
    for flag, valid in _WORDS.items():
        if flag in given and given[flag] not in valid:
            raise UserError(f"{flag} {given[flag]}: {nearest(given[flag], valid)}")
    if "--shell-completion" in given and not {"install", "uninstall", "query"} & {
        word.partition("=")[0] for word in words
    }:
        raise UserError(
            "--shell-completion needs what to do: install=bash, uninstall=bash, or another shell: fish, zsh"
        )


def _word_of(flag: str, word: str | None) -> str:
    """Return the argument of a flag that requires one.

    Raises:
        UserError: there is none.
    """
    if word is None or word.startswith("-") or "=" in word:
        raise UserError(f"{flag} needs a word: {FLAGS[flag]}")
    return word


def _refuse_launcher_of_one_run(words: list[str]) -> None:
    given = [word for word in words if word.startswith(("hydra/launcher=", "hydra.launcher.", "hydra/sweeper="))]
    several = any(word.lstrip("+").startswith("replicas=") and not word.endswith("=1") for word in words)
    if given and not several and not {"-m", "--multirun"} & set(words):
        raise UserError(f"{given[0]} is about the jobs of a sweep, and this is one run: add -m, or leave it out")


def _shows_job(words: list[str]) -> bool:
    flags = " ".join(words)
    return ("--cfg job" in flags or "-c job" in flags or "--cfg=job" in flags) and not {"-p", "--package"} & set(words)


def _show_config(words: list[str]) -> int:
    """Print the composed and checked configuration with every option, defaults included, which Hydra alone would leave out."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        code = _run_hydra(words)
    from omegaconf import OmegaConf

    from credit.core.config.compose import checked
    from credit.core.config.validate import as_read

    print(OmegaConf.to_yaml(as_read(checked(OmegaConf.create(shown.getvalue())))), end="")
    return code


def _run(words: list[str]) -> int:
    """Train the run of the words, or give them to Hydra: flags, several runs, and settings of Hydra's own.

    Hydra's main function composes a run twice, and reads its files each time.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from credit.core.config.compose import compose_words, mention_hydra
    from credit.core.config.overrides import explain

    if any(word.startswith(("-", "hydra")) for word in words):
        return _run_hydra(words)
    try:
        composed = compose_words(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error
    if mention_hydra(words):
        return _run_hydra(words)
    code = train_composed(composed, words)
    return _run_hydra(words, many=True) if code is None else code


def _run_hydra(words: list[str], many: bool = False) -> int:
    """Run Hydra on the words, with its errors raised instead of printed; return the exit code.

    Args:
        words: the command line, flags first.
        many: run a sweep although the words have no ``-m``, because of ``replicas``.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from credit.core.config import sources
    from credit.core.config.overrides import explain
    from credit.sweeps.launchers import job_task

    codes: list[int | None] = []
    failures: list[Exception] = []

    def here(cfg: Any) -> None:
        try:
            codes.append(train_composed(cfg, [word for word in words if not word.startswith("-")]))
        except Exception as error:  # raised again below; Hydra would print its own lines around it
            failures.append(error)

    sweeps = many or bool({"-m", "--multirun"} & set(words))
    if sweeps and world_size() > 1:
        raise UserError(
            f"torchrun started {world_size()} processes for one run, and -m makes several: leave -m out, or torchrun"
        )
    more = ["--multirun"] * many + [_launcher_folder()] * sweeps
    sources.register()
    try:
        with _as_command_line(words, more):
            hydra.main(config_path=None, config_name="config", version_base="1.3")(job_task() if sweeps else here)()
    except SystemExit as end:  # argparse, or a sweep with failed jobs
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error
    if failures:
        raise failures[0]
    if None in codes:
        return _run_hydra(words, many=True)
    return max((code for code in codes if code is not None), default=0)


def _launcher_folder() -> str:
    """Return the setting of Hydra for a launcher's files, which keeps them out of the current folder."""
    from credit.core.config.overrides import quoted

    return f"hydra.sweep.dir={quoted(str(runs_root().absolute() / 'launcher'))}"


@contextlib.contextmanager
def _as_command_line(words: list[str], more: list[str]) -> Iterator[None]:
    """Set ``sys.argv`` to `words`, and Hydra to raise its errors, while the context lasts.

    Args:
        words: the command line, flags first.
        more: further settings of Hydra, which those in `words` override.
    """
    argv = sys.argv
    first = next((at for at, word in enumerate(words) if "=" in word and not word.startswith("-")), len(words))
    sys.argv = ["credit-train", *words[:first], *more, *words[first:]]
    try:
        with environment(HYDRA_FULL_ERROR="1"):
            yield
    finally:
        sys.argv = argv


def train_composed(cfg: Any, words: Sequence[str]) -> int | None:
    """Check and train one composed configuration.

    Args:
        cfg: the configuration that Hydra composed.
        words: the settings it was composed from.

    Returns:
        `OK` if the run completed, `DIVERGED` if it diverged, None if ``replicas`` makes several runs of it.

    Raises:
        UserError: the run cannot be trained.
    """
    from credit.core.config.compose import checked
    from credit.core.config.overrides import plain
    from credit.runs.identity import run_name
    from credit.runs.outcome import finished

    config = checked(cfg)
    if world_size() > 1 and config.replicas != 1:
        raise UserError(
            f"torchrun started {world_size()} processes for one run, and replicas={config.replicas} are several: leave it out"
        )
    if config.replicas == "auto":
        raise UserError(
            "replicas=auto is about the seeds of a sweep or a table, and this is one run: write replicas=20 for seeds "
            f"{config.seed} to {config.seed + 19}, or -m seed=0,1,2 replicas=auto"
        )
    if config.replicas != 1:
        return None
    # A finished run is reported without importing torch; processes of torchrun find out together.
    result = finished(config) if world_size() == 1 else None
    if result is None:
        note_job_commands({run_name(config): job_command(map(plain, words))})
        from credit.training import train

        result = train(config)
    return OK if result["status"] == "complete" else DIVERGED


if __name__ == "__main__":
    sys.exit(main())
