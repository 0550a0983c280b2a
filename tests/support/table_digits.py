"""A small table on Digits whose runs are real: trained once a session, copied for each test."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from credit.core.config import check
from credit.core.user_files import use_folders
from credit.runs.places import runs_root
from credit.sweeps.runners import runner
from credit.tables.expand.jobs import expand
from credit.tables.expand.manifest import Manifest, write_manifest
from credit.tables.measures.collect import Collection, collect
from credit.tables.spec.load import load
from credit.tables.spec.schema import Spec
from tests.support.table_runs import change_result
from tests.support.written import write

TEXT = """\
# Digits under noise
title: Digits under noise
source: nowhere, Table 0
measures: [accuracy, gap, memorized, seconds_per_epoch]
accuracy: last
split: the digits of scikit-learn
settings:
  - {what: batch size, reading: "50", why: not given | small}
common: [data=digits, arch=mlp, "arch.widths=[8]", data.batch_size=50, "trainer.measure=[alignment]", trainer.device=cpu]
rows:
  clean: {label: 0 %, x: 0, set: [noise=none]}
  noisy: {label: 40 %, x: 40, set: [noise=0.4]}
columns:
  bp: {label: BP <hinge>, set: [rule=bp, optimizer.lr=0.05], rows: [clean]}
  margin: {label: LISP, set: [rule=lisp_margin]}
published:
  clean: {bp: 94.0 ± 3.3, margin: {mean: 95, std: 1, n: 5}}
  noisy: {margin: 84.8}
claims:
  - {name: better, says: It is better., compare: margin > bp, at: [clean]}
  - {name: robust, says: Noise costs at most 2 points., compare: clean/margin - noisy/margin < 2}
  - {name: falls, says: It falls., falls: margin}
figures:
  - {kind: bars, title: All}
  - {kind: lines, title: By noise, columns: [margin]}
  - {kind: curves, title: By epoch}
  - {kind: layers, title: By layer, rows: [noisy]}
  - {kind: curves, title: No wrong labels, measure: memorized, rows: [clean]}
budgets:
  smoke: {says: It runs., seeds: 1}
  quick: {says: Small., seeds: 2, set: [trainer.epochs=2, data.limit_train=300, data.limit_test=200]}
  paper: {says: Whole., seeds: 3, set: [trainer.epochs=200]}
"""
NAME = "lab/digits"


@dataclass
class Digits:
    """The table and its manifest; the runs lie in the test's own runs folder."""

    spec: Spec
    manifest: Manifest
    conf: Path

    def collected(self) -> Collection:
        return collect(self.spec, self.manifest)

    def folder(self, row: str, column: str, seed: int) -> Path:
        jobs = [job for job in self.manifest.jobs if (job.row, job.column, job.repeat["seed"]) == (row, column, seed)]
        return jobs[0].path()

    def end(self, row: str, column: str, seed: int, status: str) -> None:
        """Make a run have ended otherwise."""
        change_result(self.folder(row, column, seed), lambda result: result.update(status=status))


def train_all(conf: Path) -> Digits:
    """Train every run of the quick budget into the runs folder, and write the manifest."""
    name = write(conf, TEXT, NAME)
    spec = load(name)
    manifest = expand(spec, "quick")
    for job in manifest.jobs:
        runner(job.runner).run(check(job.config), job.options)
    write_manifest(manifest)
    use_folders([])
    return Digits(spec, manifest, conf)


def copy_runs(trained: Path) -> None:
    """Copy the trained runs, without checkpoints, into the test's runs folder."""
    shutil.copytree(trained, runs_root(), ignore=shutil.ignore_patterns("checkpoints"), dirs_exist_ok=True)
