"""`credit.wrap` under DistributedDataParallel: two ranks with half a batch each make the whole batch's step."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import credit
from tests.support import nets

RULES = ["bp", "lisp_ce", "lfp_epsilon", "dp", "dfa", "rec_lra"]


def whole(name: str) -> tuple[credit.Rule, Tensor, Tensor]:
    model = nets.mlp("tanh")
    x, y = nets.batch(model, (7,), n=12)
    return credit.rule(name, model, example=x[:2]), x, y


def rank_steps(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    for name in RULES:
        model = nets.mlp("tanh")
        x, y = nets.batch(model, (7,), n=12)
        net = DistributedDataParallel(credit.wrap(model, name, example=x[:2]))
        for _ in range(2):
            net.zero_grad()
            net(x[rank::world], y[rank::world]).backward()
            if rank == 0:
                torch.save({key: p.grad for key, p in model.named_parameters()}, f"{folder}/{name}.pt")
            torch.optim.SGD(model.parameters(), lr=0.1).step()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_make_the_whole_batchs_step(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank_steps, args=(2, str(tmp_path)), nprocs=2)
    for name in RULES:
        rule, x, y = whole(name)
        for _ in range(2):
            rule.step(x, y)
            grads = {key: p.grad for key, p in rule.model.named_parameters()}
            torch.optim.SGD(rule.model.parameters(), lr=0.1).step()
        found = torch.load(tmp_path / f"{name}.pt")
        torch.testing.assert_close(found, grads, rtol=1e-9, atol=1e-12, msg=name)
