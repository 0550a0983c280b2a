"""Versions of components: a changed component renames the runs that use it, and no others."""

import subprocess
import sys

import pytest

from credit.core.config import check
from credit.runs import identity
from credit.runs import versions as module
from credit.runs.versions import VERSIONS, Version, given, not_one_of, one_of, versions

CLIPPED = Version("rule.clip_unit", 2, "other norms", {"rule.clip_unit": given})
SPIKING = Version(
    "rule.lfp.max_abs",
    3,
    "at each step",
    {"rule.kind": one_of("lfp"), "arch.kind": one_of("spiking_mlp", "spiking_lenet")},
)
MEAN = Version("data.normalize", 2, "other means", {"data.normalize": not_one_of("none")})


def run(rule=None, arch="mlp", **more):
    return check({"trainer": {"epochs": 2, **more.pop("trainer", {})}, "rule": {"kind": "sweep", **(rule or {})},
                  "arch": {"kind": arch}, **more})  # fmt: skip


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(module, "VERSIONS", (CLIPPED, SPIKING))


def test_an_entry_matches_where_all_its_conditions_hold():
    lfp = {"kind": "lfp"}
    assert versions({"rule": lfp, "arch": {"kind": "spiking_mlp"}}, [CLIPPED, SPIKING]) == {"rule.lfp.max_abs": 3}
    assert versions({"rule": lfp, "arch": {"kind": "mlp"}}, [CLIPPED, SPIKING]) == {}
    assert versions({"rule": lfp | {"clip_unit": 0.1}, "arch": {}}, [CLIPPED]) == {"rule.clip_unit": 2}
    assert versions({"rule": lfp | {"clip_unit": None}}, [CLIPPED]) == {}
    assert versions({"data": {"normalize": "standard"}}, [MEAN]) == {"data.normalize": 2}
    assert versions({"data": {"normalize": "none"}}, [MEAN]) == {}


def test_only_the_runs_that_an_entry_matches_are_renamed(monkeypatch, table):
    renamed, kept = run({"clip_unit": 0.1}), run({"clip_unit": None})
    names = identity.run_name(renamed), identity.run_name(kept)
    assert identity.decisive(renamed)["versions"] == {"rule.clip_unit": 2} and "versions" not in identity.decisive(kept)
    monkeypatch.setattr(module, "VERSIONS", ())
    assert identity.run_name(renamed) != names[0] and identity.run_name(kept) == names[1]


def test_the_rule_of_a_warm_start_counts_too(monkeypatch, table):
    warm = run(arch="spiking_mlp", trainer={"warm_rule": "lfp_epsilon", "warm_steps": 3})
    assert identity.decisive(warm)["versions"] == {"rule.lfp.max_abs": 3, "rule.clip_unit": 2}  # lfp_epsilon.yaml: auto
    assert "versions" not in identity.decisive(run(arch="spiking_mlp", trainer={"warm_rule": "bp", "warm_steps": 3}))


def test_every_entry_has_its_own_name_and_a_reason():
    assert len({entry.component for entry in VERSIONS}) == len(VERSIONS)
    assert all(entry.number >= 2 and entry.reason and entry.when for entry in VERSIONS)


def test_the_table_is_read_without_torch():
    code = "import sys, credit.runs.versions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
