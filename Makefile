# Everything a new machine needs is here: Python 3.11 or newer, make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Settings of the DAG (README, "Settings"). DATA and MODEL are short for the first two.
DATA ?= $(or $(MUPPET_SOURCE),samples)
MODEL ?= $(MUPPET_MODEL)
STEPS ?= 0
PORT ?= 3000
export MUPPET_SOURCE := $(DATA)
export MUPPET_MODEL := $(MODEL)

.PHONY: help demo ui test test-all mutants lint clean

help:
	@echo "make demo               the whole DAG on the built-in samples, a few minutes"
	@echo "make demo DATA=FOLDER MODEL=FOLDER-OR-HUB-ID [STEPS=64]   the same on your data and model"
	@echo "make ui [PORT=3000]     Dagster's UI on the same assets"
	@echo "make test               the test suite;  make test-all  the slow tests too"
	@echo "make mutants [SAMPLE=200] [SEED=1]   deliberate faults in the core, and whether tests notice"

# The stamp is newer than what decides the environment, or the environment is brought up to date.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed, this is ' + sys.version"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dag,test]'
	touch $@

demo: $(VENV)/.ready
	$(BIN)/python -m deployments.local.demo --steps $(STEPS)

ui: $(VENV)/.ready
	$(BIN)/python -m deployments.local.ui --port $(PORT)

# Two processes, a file each at a time: a file's tests share what it sets up.
test: $(VENV)/.ready
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: $(VENV)/.ready
	$(BIN)/python -m pytest

# Results so far are in mutants.json, and a run that was stopped goes on from there. AGAIN=--again
# tries what no test noticed once more; delete the file to start afresh.
mutants: SAMPLE ?= 200
mutants: SEED ?= 1
mutants: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	OMP_NUM_THREADS=1 nice $(BIN)/python tests/mutants.py --sample $(SAMPLE) --seed $(SEED) $(AGAIN)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache
