# Everything a checkout does, one target a task. `make help` lists them.

UV_VERSION := 0.13.8
# The first Python of a supported version that really runs (a version manager's shim may exist and not run).
PYTHON ?= $(shell for candidate in python3.11 python3.12 python3.13 python3 python; do \
	$$candidate -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	>/dev/null 2>&1 && echo $$candidate && break; done)

# A process that may not keep compiled modules compiles torch anew: 4 seconds for each process that a test starts.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
UV := .boot/bin/uv --no-progress
UV_STAMP := .boot/uv-$(UV_VERSION)
ENV_STAMP := .venv/.made-from-lock

# A published table is conf/paper/<paper>/<table>.yaml; its target is <paper>-<table>.
TABLES := $(patsubst conf/paper/%.yaml,%,$(wildcard conf/paper/*/*.yaml))
TABLE_TARGETS := $(subst /,-,$(TABLES))
BUDGET ?= quick

# Two processes of one thread each (tests/conftest.py); one that is done takes tests over from the other.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help env train test test-data specs fuzz test-all lint format types smoke wheel bench gpu check papers lock clean $(TABLE_TARGETS)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo "  make lisp-fig3 [BUDGET=smoke|quick|paper] [SEEDS=3] [ARGS=\"...\"]: a published table, of: $(TABLE_TARGETS)"

env: $(ENV_STAMP) ## create .venv from requirements.lock (again when the lock changes)

train: env ## train backprop and LISP-margin on Digits with 40 % wrong labels; a table at the end
	$(BIN)/credit-train -m rule=bp,lisp_margin data=digits noise=0.4

test: env ## the fast tests
	$(PYTEST)

test-data: env ## the fast tests of real data, where it is unpacked (./data or $CREDIT_DATA); `make test` skips them without
	$(PYTEST) -m "data and not slow"

specs: env ## expand every published table into its runs
	$(PYTEST) -m "" -k "every_table_of_the_project and not at_every_budget" tests/tables/expand

FUZZ ?= 3000
fuzz: env ## damage FUZZ=3000 files of each format, by the numbers of FUZZ_SEED=0: each is read, or refused in words
	FUZZ_COUNT=$(FUZZ) $(PYTEST) -m slow tests/testing/fuzz

test-all: env ## all tests, the slow ones too
	$(PYTEST) -m ""

lint: env ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: env ## ruff: rewrite the files as `make lint` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: env ## mypy
	$(BIN)/mypy

smoke: env ## train for seconds: the default, a convolutional network, a sweep; then the same again, which must skip
	sh scripts/smoke.sh

wheel: env ## build the wheel, install it in a throw-away environment, train once from an empty folder
	sh scripts/try_wheel.sh $(UV)

bench: env ## one step of each rule against autograd's: time and memory
	$(BIN)/credit bench

gpu: env ## all that is measured on a GPU, in one report: runs/reports/gpu; ARGS="--seconds 6 trainer.epochs=10"
	@$(BIN)/python -m credit.cli.benches.gpu $(ARGS)

check: env ## the battery that every rule must pass
	$(BIN)/credit check

papers: env ## list the published tables with what their budgets cost
	$(BIN)/credit table

$(TABLE_TARGETS): env
	$(BIN)/credit table $(strip $(foreach table,$(TABLES),$(if $(filter $@,$(subst /,-,$(table))),$(table)))) budget=$(BUDGET) $(if $(SEEDS),seeds=$(SEEDS)) $(ARGS)

lock: $(UV_STAMP) ## resolve pyproject.toml anew into requirements.lock
	$(UV) pip compile --universal --generate-hashes --python-version 3.11 --extra dev --extra tabular --extra slurm --extra integrations \
		--no-emit-index-url --no-annotate --no-header --quiet pyproject.toml -o requirements.lock

clean: ## remove caches and builds; the environment, the data and the runs stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
	find credit hydra_plugins tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV_STAMP):
	@test -n "$(PYTHON)" || { \
		echo "credit needs Python 3.11, 3.12 or 3.13 with its venv module, and none of python3.11, python3.12,"; \
		echo "python3.13, python3, python is one that runs. Install one (on Debian and Ubuntu also python3-venv),"; \
		echo "or name it: make env PYTHON=/path/to/python3.12"; exit 2; } >&2
	rm -rf .boot
	$(PYTHON) -m venv .boot
	.boot/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: uv==$(UV_VERSION)
	@touch $@

# Hash mode refuses an editable project, so the project follows by itself: no dependencies, and built by the locked
# hatchling. The lock also constrains what a source distribution is built with.
$(ENV_STAMP): requirements.lock pyproject.toml | $(UV_STAMP)
	$(BIN)/python -c 'import sys' 2>/dev/null || $(UV) venv --clear --quiet --python .boot/bin/python .venv
	$(UV) pip install --python $(BIN)/python --require-hashes --build-constraints requirements.lock -r requirements.lock
	$(UV) pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# What no rule makes: a table of that name is looked for, so that a typing error is answered with the nearest.
.DEFAULT:
	@case "$@" in \
		*-*) name="$@"; $(BIN)/credit table "$${name%%-*}/$${name#*-}" ;; \
		*) echo "make: there is no target '$@'; make help lists them" >&2; exit 2 ;; \
	esac
