# What one does with this project. `make` lists it.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help check fix test bench docs

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

check: .venv/ready ## look for faults without running anything: style, types, the worker's syntax
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips --violations --target=3.6- src/sheepdog/client.py

fix: .venv/ready ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: .venv/ready ## run all tests; CLUSTER_INSTALL=1 allows Debian packages for the test cluster
	$(BIN)/python -m pytest

bench: .venv/ready ## measure, beside the standard library's pools
	$(BIN)/python bench/run.py

docs: .venv/ready ## build docs/_build/index.html; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@
