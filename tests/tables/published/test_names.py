"""A run's name is for good: runs that exist are found again under it, whatever options are added later."""

import pytest

from credit.tables.expand.jobs import expand
from credit.tables.spec.load import load

NAMES = {
    ("untied/table4", "quick"): {
        ("b256_lr0_005", "tied"): "bp-lenet5-mnist-lr0.005-e30-s0-dcd77c7880",
        ("b1024_lr0_1", "rect"): "untied_rectangle-lenet5-mnist-lr0.1-e30-s0-2305f28900",
    },
    ("untied/table2", "paper"): {("d100_b64_lr0_1", "constant_ce"): "untied_constant-suc-ones-lr0.1-e30-s0-4477c3f697"},
    ("untied/transformers", "quick"): {
        ("convnext", "jam_rect"): "jam_rectangle-test_convnext-cifar10-lr0.002-e6-s0-910af12191",
    },
    ("lfp/figA1", "paper"): {("step", "release"): "lfp_epsilon-mlp-sign_line-lr1-e1-s0-564b009e58"},
    ("lfp/figA2", "paper"): {("t500", "alphabeta"): "shattering-lfp_alphabeta-deep_mlp-s0-942312f033"},
    ("lfp/fig5", "quick"): {("mnist", "sum_epsilon"): "lfp_epsilon-lenet5-mnist-lr0.01-e10-s0-d40f5e8e4a"},
    ("untied/fig6", "smoke"): {("relu", "logistic"): "gate-untied_logistic-relu-s0-4180653771"},
    ("lisp/table2", "quick"): {
        ("plain", "lisp_margin"): "timing-lisp_margin-plain_conv_bn-cifar10-lr0.02-s0-c0ff697770-1bff1f354f",
    },
}  # fmt: skip


@pytest.mark.parametrize(("table", "budget"), NAMES)
def test_runs_keep_their_names(table: str, budget: str) -> None:
    named = {(job.row, job.column): job.folder for job in expand(load(table), budget, seeds=1).jobs}
    wanted = NAMES[table, budget]
    assert {cell: named[cell] for cell in wanted} == wanted
