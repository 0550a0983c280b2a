"""The text of ``credit-train --help``: examples, then every group with its present choices, then options and flags."""

import shutil
import textwrap

from credit.core.config.folders import all_choices

_HEAD = """\
credit-train: train a network with any rule for how error reaches the weights.

usage: credit-train [group=choice ...] [group.option=value ...] [flags]

examples
  credit-train                                              LISP-margin on Digits, a few seconds
  credit-train rule=bp noise=0.4                            backprop with 40 % wrong training labels
  credit-train rule=lisp_margin data=cifar10 noise=0.4      a convolutional network on real images
  credit-train -m rule=bp,lisp_margin noise=0,0.4 seed=0,1  every combination, seeds averaged in one table
  credit-train rule=lisp_margin noise=0.4 replicas=20       seeds 0 to 19, as twenty runs; trained together where faster
  credit-train arch=timm arch.name=resnet18 arch.stem=cifar data=cifar10
  credit-train debug=tiny ...                               the same run made tiny: does it work at all?
  credit-train --config-dir my_conf rule=mine               your own rule: my_conf/rule/mine.yaml and mine.py

The same command resumes an unfinished run and tells the result of a finished one."""

_TAIL = """\
often changed
  seed=0  trainer.epochs=20 | trainer.steps=1000  optimizer.lr=0.05  data.batch_size=128  data.limit_train=1000
  arch.widths=[256,256]  arch.activation=relu  noise.rate=0.4  trainer.device=auto  trainer.compile=true
  rule.loss  rule.gate  rule.feedback_weights  rule.normalizer  rule.margin

flags
  -m, --multirun        run every combination of comma-separated values; hydra.launcher.jobs=2 runs two at a time,
                        replicas=auto runs jobs that differ in their seed alone together where that is faster
  -c, --cfg job         print the composed configuration, every option with its value, and stop
  --config-dir DIR      add a folder with your own choices (DIR/rule, DIR/experiment, ...); may be repeated
  --info defaults-tree  show which file each choice came from
  --version, --help     --hydra-help shows Hydra's own flags

environment
  CREDIT_DATA  where the data lies (default ./data)      CREDIT_RUNS  where runs go (default ./runs)

`credit table` runs published tables; `credit list` describes each choice; `credit doctor` says what is missing on this machine."""


def train_help() -> str:
    """Return the help text of ``credit-train``, wrapped to the terminal's width."""
    width = min(shutil.get_terminal_size((110, 24)).columns, 120)
    lines = ["groups and choices (group=choice)"]
    for group, names in all_choices().items():
        extra = "0.4 (a rate)" if group == "noise" else ""
        text = "  ".join([*names, extra]).rstrip()
        lines += textwrap.wrap(text, width, initial_indent=f"  {group:<11}", subsequent_indent=" " * 13)
    return "\n\n".join([_HEAD, "\n".join(lines), _TAIL])
