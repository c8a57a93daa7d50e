# make run   set up .venv and train on the digits
# make test  set up .venv and run every check
# make test-chaos  disturb runs at random and count what they lose
# make test-launchers  every way a sweep can break, with every launcher
# make test-matrix  every mode with every compression and both kinds of networks
# make docs  build the documentation into site/
# make test-fuzz   thousands of random overrides, forged pickles and broken pictures
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run test test-chaos test-launchers test-matrix test-fuzz docs lint bench clean
.DELETE_ON_ERROR:

run: $(INSTALLED)
	$(BIN)/python -m runner experiment=digits/best $(ARGS)

test: $(INSTALLED) lint
	$(BIN)/python -m pytest -n 2 --dist loadscope $(ARGS)

test-chaos: $(INSTALLED)
	$(BIN)/python -m tests.chaos $(ARGS)

test-launchers: $(INSTALLED)
	RUNNER_EVERY_LAUNCHER=1 $(BIN)/python -m pytest tests/e2e/test_launchers.py $(ARGS)

test-matrix: $(INSTALLED)
	RUNNER_EVERY_COMBINATION=1 $(BIN)/python -m pytest -n 2 tests/e2e/test_compression.py $(ARGS)

test-fuzz: $(INSTALLED)
	RUNNER_FUZZ=1000 $(BIN)/python -m pytest --hypothesis-show-statistics tests/config/test_fuzz.py \
		tests/test_unpickling.py tests/data/test_damaged_images.py $(ARGS)

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,dev,bench]'
	for name in training loop_overhead limits input_pipeline startup memory default_run tracking_overhead sweep_overhead deployed \
		compression scaling eta; do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.10, 3.11 or 3.12 was found. Name one: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,dev]'
	$(BIN)/python -m runner kernels > /dev/null
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
