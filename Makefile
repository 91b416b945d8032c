# Each target makes what it needs from nothing. The stamps in $(VENV) change only with the files that say what to install,
# so that a second call installs nothing.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
BIN := $(VENV)/bin
INSTALL := $(BIN)/pip install --quiet --constraint constraints.txt --editable

# Where the tests look for MNIST; without it those that need it are skipped.
ifneq ($(wildcard ../shared/data),)
export DEEPFORWARD_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test check bench clean

demo: $(VENV)/.runtime
	@rm -rf runs/demo
	$(BIN)/deepforward train perceptron --set depth=56 --data digits --cure --out runs/demo

test: $(VENV)/.development
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

check: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.runtime
	@mkdir -p build/bench
	@set -e; for question in $(filter-out benchmarks/comparison.py,$(wildcard benchmarks/*.py)); do \
	  $(BIN)/python $$question --quick --json build/bench/$$(basename $$question .py).json; \
	done

clean:
	rm -rf $(VENV) build runs

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) .
	@touch $@

$(VENV)/.development: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) '.[test,check]'
	@touch $@ $(VENV)/.runtime
