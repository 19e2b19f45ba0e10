# Every command a person needs. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# uv from the PATH, else one in a venv of its own, so that a system Python that refuses pip works too.
UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
# uv trusts the machine's certificates, as pip does: behind a company's proxy its own list is not enough.
export UV_SYSTEM_CERTS ?= true
ENGINE ?= holdfast
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command "make lock" --extra agents --extra local --extra dev --extra otel pyproject.toml \
	engine/pyproject.toml

.PHONY: help setup run test faults rehearse-upgrade bench check guard lock lock-current format clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready  ## Create .venv from requirements.lock (every other command does this first)

run: $(VENV)/.ready  ## Serve the six agents, run the demo, then serve until Ctrl-C (ONCE=1: end after the demo)
	@$(BIN)/python -m langgraph_runtime_holdfast.local --engine $(ENGINE) --end-with-parent $(if $(ONCE),--once) -- $(BIN)/holdfast demo

test: $(VENV)/.ready  ## Run every test: unit, contract, faults, e2e
	@$(BIN)/pytest -n logical --maxprocesses 4 --dist loadgroup

faults: $(VENV)/.ready  ## Break real processes under load, in every way, and write docs/faults.md
	@FAULTS=all FAULTS_REPORT=docs/faults.md $(BIN)/pytest tests/faults

rehearse-upgrade: $(VENV)/.ready  ## Try an upgrade to this version and back, under load (OLD=git ref, folder of wheels or image)
	@$(BIN)/python -m tests.deploy.rehearsal $(OLD)

bench: $(VENV)/.ready  ## Measure all engines side by side into docs/performance.md (QUICK=1: minutes; PROFILE=1: hot spots)
	@$(BIN)/python -m benchmarks$(if $(PROFILE),.profile,$(if $(QUICK),.quick))

check: lock-current  ## Lint, types, import rules, graph guard, lock is current
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m graphs.kit.guard

guard: $(VENV)/.ready  ## Check every graph of langgraph.json against the rules of graphs/
	@$(BIN)/python -m graphs.kit.guard

lock: | $(UV)  ## Take the newest versions that pyproject.toml allows into requirements.lock
	@$(LOCK) --upgrade --output-file requirements.lock
	@$(MAKE) --no-print-directory setup

lock-current: $(VENV)/.ready
	@cp requirements.lock $(VENV)/requirements.lock && $(LOCK) --output-file $(VENV)/requirements.lock
	@cmp --silent requirements.lock $(VENV)/requirements.lock || \
		{ echo "requirements.lock does not match pyproject.toml: run 'make lock' and commit it"; exit 1; }

newest: $(VENV)/.ready  ## Say what the newest langgraph-api would change for the engine
	@$(BIN)/python -m langgraph_runtime_holdfast.newest

format: $(VENV)/.ready  ## Format and fix what can be fixed
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean:  ## Remove the environment, caches and local state
	rm -rf $(VENV) .uv .holdfast .langgraph_api .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The commands of a .venv name its folder: in a clone that was moved or copied it is made anew.
ifneq ($(shell cat $(VENV)/.ready 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.ready
endif

$(VENV)/.ready: requirements.lock pyproject.toml engine/pyproject.toml | $(UV)
	@echo "setting up $(VENV) from requirements.lock …"
	@if [ -s $@ ] && [ "$$(cat $@)" != "$(CURDIR)" ]; then rm -rf $(VENV); fi
	@test -x $(BIN)/python || $(UV) venv --quiet --python '>=3.11' $(VENV)
	@$(UV) pip sync --quiet --require-hashes --python $(BIN)/python requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e . -e ./engine
	@echo "$(CURDIR)" > $@

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Holdfast needs Python 3.11 or newer; set PYTHON=/path/to/one")'
	@$(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv
