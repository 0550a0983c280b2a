#!/bin/sh
# Build the wheel, install it where no checkout is in reach, and train from an empty folder.
# Arguments: the uv command. Dependencies are shared with .venv by a path entry: no second copy of torch.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
python=$root/.venv/bin/python
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

rm -rf dist
"$python" -m build --quiet --wheel --no-isolation --outdir dist
"$@" venv --quiet --python "$python" "$scratch/env"
"$@" pip install --quiet --no-deps --python "$scratch/env/bin/python" dist/*.whl
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
target=$("$scratch/env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# A path entry adds the folder but not the path entries inside it, so the checkout's editable install stays out of reach.
echo "$packages" > "$target/shared.pth"

mkdir "$scratch/empty"
cd "$scratch/empty"
unset CREDIT_RUNS PYTHONPATH
"$scratch/env/bin/python" -c '
import sys
import credit
if not credit.__file__.startswith(sys.prefix):
    sys.exit(f"imported {credit.__file__}, which is not the wheel")
'
"$scratch/env/bin/credit-train" trainer.epochs=2
"$scratch/env/bin/credit" list > /dev/null
ls runs/*/result.json
