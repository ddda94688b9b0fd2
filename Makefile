# What one does with this project. `make` lists it.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help check fix quick test pythons newest oldest lock chaos faults fuzz bench docs

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

check: .venv/ready ## look for faults without running anything: style, types, the worker's syntax
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests
	$(BIN)/lint-imports --no-cache
	$(BIN)/vermin --quiet --no-tips --violations --target=3.6- src/sheepdog/client src/sheepdog/schedulers/session.py

fix: .venv/ready ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quick: .venv/ready ## run the tests that start no server: under a minute on two cores
	$(BIN)/python -m pytest -q -n 3 -m "not slow and not cluster"

test: .venv/ready ## run all tests; CLUSTER_INSTALL=1 allows Debian packages for the test cluster
	$(BIN)/python -m pytest -n 5 --dist loadfile

pythons: .venv/ready ## print what each Python beside this one can run of what another made; PYPY=/usr/bin/pypy3
	$(BIN)/python -m tests.pythons

newest: ## run the quick tests with the newest of everything that pyproject.toml allows
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet --editable ".[test]"
	$(MAKE) quick BIN=.venv-newest/bin

oldest: ## run the quick tests with the oldest that pyproject.toml allows of what Sheepdog itself needs
	$(PYTHON) -m venv --clear .venv-oldest
	sed -n '/^dependencies = /,/^]/s/^ *"\([a-z]*\)>=\([0-9.]*\).*/\1==\2/p' pyproject.toml >.venv-oldest/constraints.txt
	.venv-oldest/bin/pip install --quiet --constraint .venv-oldest/constraints.txt --editable ".[test]"
	$(MAKE) quick BIN=.venv-oldest/bin

lock: ## write constraints.txt anew: the newest versions today of all that the tests need, for every Python
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/pip install --quiet uv
	.venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra test --no-header \
		--no-annotate --output-file constraints.txt pyproject.toml

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

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@
