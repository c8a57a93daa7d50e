# make run   set up .venv for running and train on the digits
# make test  add what development needs and run the fast checks
# make test-all  every check: real processes, servers, browsers, launchers
# make test-chaos  disturb runs at random and count what they lose
# make test-launchers  every way a sweep can break, with every launcher
# make test-matrix  every mode with every compression and both kinds of networks, and what networks of others can do
# make test-peers  networks, weights and augmentation beside PyTorch's, timm's and PaddleClas'
# make test-damage  every file of a run, every kind of damage and every verb
# make test-gpu  on a machine with NVIDIA GPUs: everything that is written for them, and a table of what it found
# make test-fuzz   thousands of random overrides, forged pickles and broken pictures
# make wheel   build the wheel into dist/
# make smoke   install the wheel in an environment of its own, elsewhere, and train with it for some steps
# make docs  build the documentation into site/
# make bench  run the benchmarks, beside other tools
# Bash, because a step that fails at the head of a pipe has failed.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
SMOKE := build/smoke
# Stamps: written when every step of an installation has succeeded.
INSTALLED := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.installed-dev

# An environment of its own: the two builds of Paddle overwrite each other's files. GPU_INDEX has Paddle's for another CUDA.
GPU ?= .venv-gpu
GPU_INDEX ?= https://www.paddlepaddle.org.cn/packages/stable/cu126/

# With PyTorch, timm and PaddleClas, which would change what the other tests find.
BESIDE := .venv-peers

# Install this package with extras, with one line of progress in place of pip's hundreds, and a dot where pip is silent for
# two seconds; errors pass through.
define install
@$(BIN)/python -m pip install --disable-pip-version-check $(patsubst %,-e '.[%]',$(1)) | { \
while read -t 2 -r verb object rest || [ $$? -gt 128 ]; do case "$$verb $$object" in \
	"Collecting "*) [ ! -t 1 ] || printf '\r\033[K  collecting %s ' "$$object";; \
	"Installing collected") [ ! -t 1 ] || printf '\r\033[K'; printf '  installing %d packages ' $$(wc -w <<< "$${rest#*:}");; \
	" ") [ ! -t 1 ] || printf .;; \
esac; done; echo; }
endef

.PHONY: run test test-gpu test-all test-peers test-damage test-chaos test-launchers test-matrix test-fuzz wheel smoke docs lint bench clean
.DELETE_ON_ERROR:

run: $(INSTALLED)
	$(BIN)/python -m runner experiment=digits/best $(ARGS)

test: $(DEVELOPMENT) lint
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow" $(ARGS)

test-all: $(DEVELOPMENT)
	$(BIN)/python -m pytest -n 2 --dist loadscope $(ARGS)

test-gpu: $(GPU)/.installed
	$(GPU)/bin/python -m pytest -m gpu tests/gpu $(ARGS)

test-chaos: $(DEVELOPMENT)
	$(BIN)/python -m tests.chaos $(ARGS)

test-launchers: $(DEVELOPMENT)
	RUNNER_EVERY_LAUNCHER=1 $(BIN)/python -m pytest tests/e2e/test_launchers.py $(ARGS)

# Beside the peers, since most of these networks are PaddleClas'.
test-matrix: $(BESIDE)/.installed
	RUNNER_EVERY_COMBINATION=1 $(BESIDE)/bin/python -m pytest -n 2 tests/e2e/test_compression.py tests/zoo tests/methods $(ARGS)

test-fuzz: $(DEVELOPMENT)
	RUNNER_FUZZ=1000 $(BIN)/python -m pytest --hypothesis-show-statistics tests/config/test_fuzz.py \
		tests/data/test_unpickling.py tests/data/test_damaged_images.py $(ARGS)

# What is skipped without the peers; -rs names what is skipped all the same.
PEERS := tests/models tests/zoo tests/methods tests/data/augment/test_torchvision.py tests/benchmarks/test_finetuning.py
test-peers: $(BESIDE)/.installed
	$(BESIDE)/bin/python -m pytest -n 2 -rs $(PEERS) $(ARGS)

test-damage: $(DEVELOPMENT)
	$(BIN)/python -m tests.damage $(ARGS)

wheel: $(DEVELOPMENT)
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist

smoke: wheel
	$(require_python)
	rm -rf $(SMOKE)
	$(PYTHON) -m venv $(SMOKE)
	$(SMOKE)/bin/python -m pip install --disable-pip-version-check -q "$$(ls dist/*.whl)[cpu]"
	cd $(SMOKE) && bin/python -m runner --version
	cd $(SMOKE) && bin/python -m runner mode=cls_distill compression=qat +debug=fast_dev_run

docs: $(DEVELOPMENT)
	$(BIN)/python -m docs.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The programs in benchmarks/ that need no argument; the shortest ones first.
BENCHMARKS := startup memory limits transformers loop_overhead noise many_runs scale eta default_run training same_recipe input_pipeline folder_pipeline augmentation \
	tracking_overhead sweep_overhead scaling prediction deployed pretrained distillation finetuning compression

bench: $(DEVELOPMENT)
	$(call install,cpu dev bench)
	failed=; for name in $(BENCHMARKS); do \
		echo "== $$name"; $(BIN)/python -m benchmarks.$$name || failed="$$failed $$name"; \
	done; [ -z "$$failed" ] || { echo "failed or out of bounds:$$failed"; exit 1; }

define require_python
@test -n "$(PYTHON)" || { echo "No Python 3.10, 3.11 or 3.12 was found. Name one: make PYTHON=/path/to/python"; exit 1; }
endef

$(INSTALLED): pyproject.toml
	$(require_python)
	@echo "Using $$($(PYTHON) --version): $$(command -v $(PYTHON))"
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing what running needs (about 110 packages, one to three minutes)"
	$(call install,cpu)
	@echo "Compiling the kernels for this processor"
	@$(BIN)/python -m runner kernels > /dev/null
	@touch $@

$(DEVELOPMENT): $(INSTALLED)
	@echo "Installing what development needs as well (about 80 packages more)"
	$(call install,cpu dev)
	@touch $@

$(BESIDE)/.installed: pyproject.toml
	$(require_python)
	@$(BESIDE)/bin/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(BESIDE)
	$(BESIDE)/bin/python -m pip install -q -e '.[cpu,dev,bench]'
	$(BESIDE)/bin/python -m pip install -q --no-deps paddleclas==2.6.0 'timm>=1,<2'
	@touch $@

$(GPU)/.installed: pyproject.toml
	$(require_python)
	@$(GPU)/bin/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(GPU)
	$(GPU)/bin/python -m pip install -q 'paddlepaddle-gpu>=3.1,<4' -i $(GPU_INDEX)
	$(GPU)/bin/python -m pip install -q -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(GPU) $(BESIDE) build dist *.egg-info
