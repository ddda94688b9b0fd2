# What one does with this project. `make` lists it.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help check fix test chaos faults fuzz bench docs

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

check: .venv/ready ## look for faults without running anything: style, types, the worker's syntax
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/vermin --quiet --no-tips --violations --target=3.6- src/sheepdog/client src/sheepdog/schedulers/session.py

fix: .venv/ready ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: .venv/ready ## run all tests; CLUSTER_INSTALL=1 allows Debian packages for the test cluster
	$(BIN)/python -m pytest -n 3 --dist loadfile

chaos: .venv/ready ## half an hour of chaos, here and on the test cluster; needs root. MINUTES=5 is shorter
	$(BIN)/python -m tests.chaos --minutes $(or $(MINUTES),30)

faults: .venv/ready ## write tests/faults.rst, the table of faults, from what the tests say of themselves
	$(BIN)/python -m tests.faults

fuzz: .venv/ready ## send the server what nobody would send, for some ten minutes (atheris has no wheel for every Python)
	FUZZ=20 $(BIN)/python -m pytest --timeout 1200 tests/server/http/test_fuzz.py
	$(BIN)/pip install --quiet --editable ".[fuzz]"
	$(BIN)/python tests/server/http/fuzz_frames.py -max_total_time=300

bench: .venv/ready ## measure, beside the standard library's pools
	$(BIN)/python bench/run.py

docs: .venv/ready ## build docs/_build/index.html; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@
