# Two commands for a newcomer: `make demo` and `make test`. Every target sets up what it needs in .venv and is quick
# the second time: the stamps below are redone only when pyproject.toml or constraints.txt change.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINNED := -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-servers test-ipfs lint bench serve pytest clean

help:
	@echo "make demo   an agent's workload, cold, warm and reopened from disk"
	@echo "make test   lint, types, import contracts, tests, the docs' examples, the benchmarks once and small"
	@echo "make test-servers  the backends on servers that are fetched once, without root: Redis 7, Valkey, Ceph"
	@echo "make test-ipfs  credentials on a real IPFS node (fetches js-ipfs once, about 300 MB)"
	@echo "make lint   ruff, mypy, import-linter"
	@echo "make bench  the micro-benchmarks with their peers (BENCH='hit miss --json' chooses)"
	@echo "make serve  the hosted service on this machine"

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "AgentCache needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install --quiet $(PINNED) -e .
	@touch $@

$(VENV)/.service: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install --quiet $(PINNED) -e '.[service,cli,redis]'
	@touch $@

# torch comes first and alone: with everything else asked for at once, pip would look through its CUDA builds.
$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install --quiet torch==2.13.0
	$(PIP) install --quiet $(PINNED) -e '.[all]' --group dev
	@touch $@ $(VENV)/.demo $(VENV)/.service

# What no Python package brings (a browser, say): one small script each, silent when there is nothing to do.
$(VENV)/.system: $(VENV)/.dev $(wildcard scripts/setup/*.sh)
	@set -e; for script in $(sort $(wildcard scripts/setup/*.sh)); do bash "$$script"; done
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: lint $(VENV)/.system
	$(BIN)/python -m pytest -n $(JOBS) -q --ignore=tests/servers

test-servers: $(VENV)/.dev
	@set -e; for script in $(sort $(wildcard scripts/servers/*.sh)); do PYTHON=$(BIN)/python bash "$$script"; done
	$(BIN)/python -m pytest -n $(JOBS) -q tests/servers

test-ipfs: $(VENV)/.dev
	@bash scripts/ipfs/install.sh
	$(BIN)/python -m pytest -q tests/service/market/test_market_ipfs.py

pytest: $(VENV)/.system
	$(BIN)/python -m pytest -n $(JOBS) -q --ignore=tests/servers

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks $(BENCH)

serve: $(VENV)/.service
	$(BIN)/agentcache-service serve

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build .demo
