# Every verb of the project. Needs python3 >= 3.11 with venv, and make; everything else is installed into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip
COMPILE := $(UV) compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
  --custom-compile-command "make lock"
DATA ?= .reflux
# Processes that run the tests: they wait more than they compute.
WORKERS ?= 3
# A worker that dies is a failure and ends the run. pytest-xdist would start another one, give it the files that
# were done once more, as work without tests, and wait for ever for their end (pytest-xdist #1323, #1378).
CRASH_ENDS := --max-worker-restart=0
# Where real processes and real time are tested, what fails is tried once more, and both tries are told.
AGAIN := --reruns 1 --rerun-show-tracebacks \
  $(addprefix --rerun-exclude-path=,tests/golden tests/property tests/simulation tests/unit)
PAYMENTS ?= 10000
SIMULATE_SECONDS ?= 28800
SIMULATE_PROCESSES ?= 2
# The authorities the machine trusts, a company's own included; without such a bundle uv's built-in ones.
export UV_SYSTEM_CERTS ?= $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),1,0)

.PHONY: help install demo up test simulate lint types proto lock bench chaos payments clients clean

help: ## show the verbs
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  \1\t\2/' | expand -t 12

install: $(VENV)/.runtime ## install what running needs, from the lock file

demo: install ## start the whole stack, run the demo flows, show what happened, stop
	$(BIN)/python -m tests.examples.demo

up: install ## start the whole stack and stay up; Ctrl-C stops it
	$(BIN)/reflux up --data-dir $(DATA)

test: $(VENV)/.dev lint types ## everything that must hold: lint, types, contracts, all levels of tests
	$(BIN)/pytest tests -n $(WORKERS) --dist loadfile $(CRASH_ENDS) $(AGAIN)

simulate: $(VENV)/.dev ## worlds of orchestrators under faults for a night; SIMULATE_SECONDS=28800
	$(BIN)/python -m tests.simulation --seconds $(SIMULATE_SECONDS) --processes $(SIMULATE_PROCESSES)

lint: $(VENV)/.dev ## style, import contracts, protobuf style, generated code up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/buf lint services/reflux/api/reflux.binpb --config proto/buf.yaml
	PYTHON=$(BIN)/python proto/generate --check
	$(BIN)/python -m reflux.gateway.openapi | diff gateway/openapi.yaml -

types: $(VENV)/.dev ## mypy, strict
	$(BIN)/mypy

proto: $(VENV)/.dev ## write services/reflux/api from proto/, and gateway/openapi.yaml from that
	PYTHON=$(BIN)/python proto/generate
	$(BIN)/python -m reflux.gateway.openapi > gateway/openapi.yaml

lock: $(VENV)/.uv ## choose new versions of everything and write the lock files
	$(COMPILE) --group build -o requirements-build.lock
	$(COMPILE) pyproject.toml --extra embedded --extra llm -o requirements.lock
	$(COMPILE) pyproject.toml --extra embedded --extra llm --group dev -c requirements.lock -o requirements-dev.lock

bench: $(VENV)/.dev ## measure, each figure beside its bare limit
	$(BIN)/python -m bench all

chaos: $(VENV)/.dev ## kill and pause an orchestrator at every moment of its work, and all storms; takes long
	TEST_CHAOS=all $(BIN)/pytest tests/chaos --durations=10

payments: $(VENV)/.dev ## 10,000 payments under faults of providers and kills of everything; PAYMENTS_SEED=1, PAYMENTS_MINUTES=30; takes long
	PAYMENTS=$(PAYMENTS) $(BIN)/pytest -s tests/chaos/test_payments_move_once.py

clients: $(VENV)/.dev ## build and run the client example of every language whose toolchain is there
	TEST_CLIENTS=1 $(BIN)/pytest tests/clients --durations=0

clean: ## remove the environment, caches and the data of the embedded stack
	@if [ -x $(BIN)/reflux ]; then $(BIN)/reflux down --data-dir $(DATA) || true; fi
	rm -rf $(VENV) $(DATA) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	rm -rf tests/examples/clients/*/{build,node_modules,stubs,target}

# -- environment: stamps, so that a warm `make demo` installs nothing ----------------------------------------

$(VENV)/.uv: requirements-build.lock
	@$(PYTHON) -c 'import sys; sys.exit("REFLUX needs python3 >= 3.11; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-build.lock
	touch $@

$(VENV)/.runtime: $(VENV)/.uv requirements.lock pyproject.toml
	$(UV) install -q --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(UV) install -q --python $(BIN)/python --require-hashes -r requirements-dev.lock
	touch $@
