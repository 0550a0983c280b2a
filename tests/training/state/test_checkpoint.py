"""Checkpoints: whole or not there, damage named and set aside, nothing executed."""

import io
import pickle

import pytest
import torch

from credit.core.errors import UserError
from credit.training.state import checkpoint


def state(step: int) -> dict:
    return {"step": step, "model": {"w": torch.arange(100.0) * step}, "best": None, "seconds": 1.5}


def saved(folder, steps=(1, 2, 3)):
    return [checkpoint.save(folder, step, state(step)) for step in steps]


def refuse_warning(text: str) -> None:
    raise AssertionError(text)


def test_reads_back_what_was_written(tmp_path):
    saved(tmp_path)
    back = checkpoint.latest(tmp_path, refuse_warning)
    assert back is not None
    assert back["step"] == 3 and back["seconds"] == 1.5 and back["best"] is None
    assert torch.equal(back["model"]["w"], torch.arange(100.0) * 3)


def test_keeps_the_last_two_and_the_best(tmp_path):
    for step in range(1, 8):
        checkpoint.save(tmp_path, step, state(step))
        checkpoint.prune(tmp_path, 2 if step >= 2 else None, None)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        f"step-{step:09d}.ckpt" for step in (2, 6, 7)
    ]


def test_a_run_without_checkpoints_begins(tmp_path):
    assert checkpoint.latest(tmp_path, refuse_warning) is None


def truncate(content: bytes) -> bytes:
    return content[:-10]


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


def flip_in_digest(content: bytes) -> bytes:
    place = content.index(b" 1 ") + 5
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def empty(content: bytes) -> bytes:
    return b""


def rubbish(content: bytes) -> bytes:
    return b"\x00" * len(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, flip_in_digest, empty, rubbish])
def test_a_damaged_one_is_named_set_aside_and_the_one_before_used(tmp_path, damage):
    last = saved(tmp_path)[-1]
    last.write_bytes(damage(last.read_bytes()))
    warnings: list[str] = []
    back = checkpoint.latest(tmp_path, warnings.append)
    assert back is not None and back["step"] == 2
    [warning] = warnings
    assert last.name in warning and "damaged" in warning and "\n" not in warning
    assert not last.exists() and last.with_name(last.name + ".corrupt").exists()


def test_none_left_stops_and_says_so_every_time(tmp_path):
    for path in saved(tmp_path):
        if path.exists():
            path.write_bytes(flip_a_bit(path.read_bytes()))
    for _ in range(2):
        with pytest.raises(UserError, match="every checkpoint in .* is damaged .* delete .* and give the same command"):
            checkpoint.latest(tmp_path, lambda text: None)


def test_a_newer_format_is_neither_damaged_nor_set_aside(tmp_path):
    path = saved(tmp_path)[-1]
    path.write_bytes(path.read_bytes().replace(b"credit-checkpoint 1", b"credit-checkpoint 2", 1))
    with pytest.raises(
        UserError, match="has format 2, and this version of credit reads format 1: use the version that"
    ):
        checkpoint.latest(tmp_path, refuse_warning)
    assert path.exists()


class Code:
    """A pickle that would run code when it is read."""

    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('executed').touch()",))


def test_a_pickle_with_code_is_refused_even_with_a_right_digest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = checkpoint.save(tmp_path, 1, {"x": 1})
    for content in (pickle.dumps({"x": Code()}), _torch_saved({"x": Code()})):
        path.write_bytes(_with_header(content))
        with pytest.raises(checkpoint.DamagedError, match="torch refuses it"):
            checkpoint.read(path)
    assert not (tmp_path / "executed").exists()


def test_an_unfinished_write_is_swept_away(tmp_path):
    path = saved(tmp_path)[-1]
    half = path.with_name("step-000000004.ckpt.tmp")
    half.write_bytes(path.read_bytes()[:50])
    back = checkpoint.latest(tmp_path, refuse_warning)
    assert back is not None and back["step"] == 3
    assert not half.exists()


def _torch_saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _with_header(content: bytes) -> bytes:
    import hashlib

    digest = hashlib.sha256(content).hexdigest()
    return f"credit-checkpoint 1 {digest} {len(content)}\n".encode() + content
