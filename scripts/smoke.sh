#!/bin/sh
# Train for seconds through the command line, in a throw-away runs folder.
set -eu
cd "$(dirname "$0")/.."
CREDIT_RUNS=$(mktemp -d)
export CREDIT_RUNS
trap 'rm -rf "$CREDIT_RUNS"' EXIT
train=.venv/bin/credit-train

$train trainer.epochs=2
$train rule=lisp_margin arch=plain_conv_bn "arch.widths=[8,8,8,8,8,8]" arch.hidden=16 data=digits noise=0.4 trainer.epochs=1
$train -m rule=bp,fa,dfa trainer.epochs=1
echo "The first command again: it must find its run complete."
again=$($train trainer.epochs=2 2>&1)
echo "$again"
echo "$again" | grep -q "already complete"
echo "A published table on data that comes with scikit-learn, and again: all of it must be complete."
.venv/bin/credit table lisp/table3 budget=smoke
again=$(.venv/bin/credit table lisp/table3 budget=smoke)
echo "$again"
echo "$again" | grep -q " 60 already complete"
