"""Whether seeds share a pass: as asked for, where it can be, where memory holds it."""

import re
from dataclasses import replace

import pytest
import torch

from credit.core.config import check
from credit.core.errors import UserError
from credit.sweeps.choose import choose
from credit.training.backends.memory import available, needed
from credit.training.prepare import prepare
from tests.support.fakes import arrays, write_npz


def asking(config, how: str, **changes):
    cfg = config("bp", **changes)
    return replace(cfg, trainer=replace(cfg.trainer, replicate=how))


def test_as_asked_for(config):
    assert choose(asking(config, "map"), 4).mapped and choose(asking(config, "map"), 4).chunk == 4
    assert not choose(asking(config, "processes"), 4).mapped
    assert not choose(asking(config, "auto"), 1).mapped


def test_small_networks_share_a_pass(config):
    choice = choose(asking(config, "auto", data={"batch_size": 8}), 20)
    assert choice.mapped and choice.chunk == 20 and choice.speedup is not None and choice.speedup > 1
    assert re.search(
        r"a pass is \S+ times as fast as processes, core for core \(steps of \d+ replicas timed\)", choice.why
    )


def test_what_cannot_be_mapped_goes_to_processes_or_is_refused(config, tmp_path):
    path = write_npz(tmp_path / "colours.npz", **arrays(40, (32, 32, 3)))
    data = {"kind": "npz", "path": str(path), "limit_train": None, "batch_size": 8}
    mlp = config("bp", rule={"local_autograd": True}, data=data)
    cfg = check({**mlp.as_dict(), "arch": {"kind": "timm", "name": "test_efficientnet_evos"}})
    auto = replace(cfg, trainer=replace(cfg.trainer, replicate="auto"))
    if (reason := choose(auto, 3)).mapped:
        pytest.fail(f"mapped: {reason}")
    assert "local '" in reason.why
    with pytest.raises(UserError, match=r"trainer.replicate=map cannot train 3 seeds in one pass: .*local '.*=auto"):
        choose(replace(cfg, trainer=replace(cfg.trainer, replicate="map")), 3)


def test_a_refusal_that_says_what_to_write_gives_no_second_advice(config):
    cfg = config("dp", rule={"schedule": "random"}, trainer={"replicate": "map"})
    with pytest.raises(UserError, match="write rule.schedule=fwbw, or trainer.replicate=processes$"):
        choose(cfg, 3)


def test_more_replicas_than_memory_holds_are_refused(config):
    cfg = asking(config, "map", arch={"widths": [256, 256]})
    count = 10**7
    with pytest.raises(
        UserError, match=r"replicas=10000000 in one pass .* would take about \d+.* GiB .* fit. Write replicas="
    ):
        choose(cfg, count)
    room = available(torch.device("cpu"))
    assert room is None or needed(prepare(cfg), count) > room
    choice = choose(asking(config, "auto", data={"batch_size": 8}), count)
    assert choice.chunk < count and (choice.room == choice.chunk or not choice.mapped)
    few = choose(asking(config, "map"), 4)
    assert room is None or (few.chunk == 4 and few.room is not None and few.room > 4)


def test_memory_grows_with_the_replicas(config):
    prepared = prepare(config("bp"))
    one, two, twenty = (needed(prepared, count) for count in (1, 2, 20))
    assert twenty - two == 18 * (two - one) and two - one > 4 * 3 * sum(p.numel() for p in prepared.model.parameters())
