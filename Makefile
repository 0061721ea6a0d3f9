# One command each: every target sets up what it needs by itself.
#
# The harness's own exit codes (1 measured failure, 2 usage, 3 infrastructure) cannot come through make,
# which ends with 2 for all of them. It prints the code: "make: *** [...: bench] Error 3".
# Scripts that need the code call `.venv/bin/python -m harness bench` after `make setup`.

SHELL := bash
.DEFAULT_GOAL := help
# The recipes share one virtual environment and one Docker engine.
.NOTPARALLEL:

# -I: whatever is in PYTHONPATH.
HARNESS := .venv/bin/python -I -m harness
TOX := .venv/bin/python -m tox run --no-list-dependencies

# The documented example: 3 modes, 5 runs of each, 4 stages of 1, 3, 1 and 1 tasks, on four workers
# of the executor (compose/<executor>.args, if it has options for that; <executor>-run.args are those
# of `run`, if they are others).
EXECUTOR_ARGS = $(file <compose/$(EXECUTOR).args)
BENCH_ARGS ?= $(EXECUTOR_ARGS) --ps-connector file --ps-file-dir runs/cache \
  --data-management none default-proxy owned-proxy \
  --stage-task-counts 1 3 1 1 --stage-bytes-sizes 1000 10000 10000 10000 1000 \
  --task-sleep 1.0 --repeat 5
ARGS ?=

## Variables:
##   EXECUTOR=dask      what runs the tasks (bench, run): dask, globus, parsl, process,
##                      ray, taskvine, thread
##   ARGS="..."         more flags, appended to BENCH_ARGS: the last one of a flag wins
##   BENCH_ARGS="..."   instead of the documented example's flags
##   ENGINE=none        never install or start a Docker engine; fail when none answers
##   PYTHON=python3.13  makes the virtual environment (3.11 or newer)

.PHONY: help setup venv full engine bench demo run test lint unit integration mutants images lock docs results vendor clean

help: ## list the targets
	@echo 'Usage: make TARGET [VARIABLE=value ...]'
	@echo
	@echo 'Targets:'
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 21
	@echo
	@sed -nE 's/^## ?(.*)/\1/p' Makefile

setup: venv engine ## the light virtual environment and the Docker engine (every target does this by itself)

venv:
	@scripts/venv bench

full: ## the whole virtual environment: every executor here, bundles, tests (`scripts/venv full`)
	@scripts/venv full

engine: ## install and start a Docker engine with compose and buildx, unless one answers
	@scripts/engine

bench: need-executor setup ## run the benchmark in containers: make bench EXECUTOR=dask
	@$(HARNESS) bench --executor $(EXECUTOR) $(BENCH_ARGS) $(ARGS)

demo: EXECUTOR ?= dask
demo: setup ## where to begin: payloads of 10 MB, all four modes, under two minutes
	@$(HARNESS) demo --executor $(EXECUTOR) $(ARGS)

run: EXECUTOR_ARGS = $(or $(file <compose/$(EXECUTOR)-run.args),$(file <compose/$(EXECUTOR).args))
run: need-executor full ## the same in this machine's processes, without Docker
	@$(HARNESS) run --executor $(EXECUTOR) $(BENCH_ARGS) $(ARGS)

# Before anything is installed.
.PHONY: need-executor
need-executor:
	@[ -n "$(EXECUTOR)" ] || { echo "EXECUTOR is missing: say 'make $(MAKECMDGOALS) EXECUTOR=dask'" >&2; exit 2; }

test: full ## lint, unit tests, integration tests, in this order; stops at the first that fails
	@$(TOX) --fail-fast

lint: full ## ruff, mypy and the import rules
	@$(TOX) -e lint

unit: full ## the tests that need no Docker
	@$(TOX) -e unit

integration: full ## the tests that run real containers
	@$(TOX) -e integration

mutants: full ## change the code in small ways, one by one: do the unit tests notice? (half an hour)
	@.venv/bin/python benchmarks/mutants.py $(ARGS)

images: setup ## build the images that changed
	@$(HARNESS) images

# Both locks have the same versions: the light one is a part of the other.
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
  pyproject.toml requirements.in
lock: full ## pin the newest versions of all that the harness needs on the host
	@$(COMPILE) --upgrade --all-extras --output-file requirements-dev.lock
	@$(COMPILE) --upgrade --extra bench --extra report --constraint requirements-dev.lock \
	  --output-file requirements.lock

docs: full ## the documentation as a site, in build/docs
	@.venv/bin/mkdocs build --quiet --strict
	@$(HARNESS) site results --output build/docs/measured >/dev/null
	@echo build/docs/index.html

results: full engine ## measure the demo's workload on every executor, into results/ (ten minutes)
	@scripts/results

vendor: ## fetch what is held of others' JavaScript, as pinned in scripts/vendor (needs npm)
	@scripts/vendor

clean: ## remove the virtual environment, caches and our images; results in runs/ stay
	@rm -rf .venv .tox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache runs/cache
	@images="$$(docker image ls --quiet 'workflow-memory-harness/*' 2>/dev/null)"; \
	  [ -z "$$images" ] || docker image rm --force $$images
