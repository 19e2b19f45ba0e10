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
# Where Python may not keep what it compiles, each process would compile every package anew, for seconds.
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)
ENGINE ?= holdfast
IMAGE ?= holdfast:local
TARGET ?= app
LOCK := $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command "make lock"
# What each lock is of. Those of the image take their versions from the first one.
LOCKS := requirements.lock deploy/requirements.lock deploy/engine.lock deploy/builder.lock
PACKAGES := pyproject.toml engine/pyproject.toml
OF_requirements.lock := --extra agents --extra models --extra local --extra dev --extra otel $(PACKAGES)
OF_deploy/requirements.lock := --constraint requirements.lock --extra agents --extra models --extra otel $(PACKAGES)
OF_deploy/engine.lock := --constraint requirements.lock --extra otel $(PACKAGES)
OF_deploy/builder.lock := --constraint requirements.lock --group builder

.PHONY: help setup run test test-deploy faults rehearse-upgrade bench check guard lock lock-current image sbom format clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready  ## Create .venv from requirements.lock (every other command does this first)

run: $(VENV)/.ready  ## Serve the six agents, run the demo, then serve until Ctrl-C (ONCE=1: end after the demo)
	@$(BIN)/python -m langgraph_runtime_holdfast.local --engine $(ENGINE) --end-with-parent $(if $(ONCE),--once) -- $(BIN)/holdfast demo

test: $(VENV)/.ready  ## Run every test: unit, contract, faults, e2e
	@$(BIN)/pytest -n logical --maxprocesses 4 --dist loadgroup

test-deploy: $(VENV)/.ready  ## Build, run and break what is delivered: images, compose, manifests (says what it needs)
	@FAULTS=all $(BIN)/pytest tests/deploy tests/faults/test_patroni_faults.py tests/faults/test_patroni_page.py

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

lock: | $(UV)  ## Take the newest versions that pyproject.toml allows into requirements.lock and the image's
	@$(foreach lock,$(LOCKS),$(LOCK) --upgrade --output-file $(lock) $(OF_$(lock)) &&) true
	@$(MAKE) --no-print-directory setup

lock-current: $(VENV)/.ready
	@mkdir -p $(VENV)/deploy
	@$(foreach lock,$(LOCKS),cp $(lock) $(VENV)/$(lock) && \
		$(LOCK) --output-file $(VENV)/$(lock) $(OF_$(lock)) && { cmp --silent $(lock) $(VENV)/$(lock) || \
		{ echo "$(lock) does not match pyproject.toml: run 'make lock' and commit it"; exit 1; }; } &&) true

# Podman and buildah write OCI images unless told otherwise, and these have no HEALTHCHECK.
BUILD ?= $(shell docker info >/dev/null 2>&1 && echo docker build || { command -v podman >/dev/null && \
	echo podman build --format docker; } || { command -v buildah >/dev/null && echo buildah build --format docker --layers; })

image:  ## Build the image $(IMAGE) with docker, podman or buildah (TARGET=engine: without the agents)
	@test -n "$(BUILD)" || { echo "make image needs docker (with its daemon), podman or buildah: none is here"; exit 1; }
	$(BUILD) --file deploy/Dockerfile --target $(TARGET) --tag $(IMAGE) \
		--build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
		--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null)" $(IMAGE_ARGS) .

sbom:  ## Write what is in the image $(IMAGE) to sbom.json (CycloneDX; the base's own packages are not in it)
	@if docker info >/dev/null 2>&1; then run=docker; else run=podman; fi; \
	$$run run --rm --network none --entrypoint cat $(IMAGE) /opt/holdfast/sbom.json > sbom.json

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
	@$(UV) pip sync --quiet --require-hashes $(COMPILE) --python $(BIN)/python requirements.lock
	@$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e . -e ./engine
	@echo "$(CURDIR)" > $@

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Holdfast needs Python 3.11 or newer; set PYTHON=/path/to/one")'
	@$(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv
