# Two commands need nothing but Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test test-ray faults e2e check lint format imports types serve clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## make .venv with exactly the tested versions

$(INSTALLED): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q torch==2.13.0 -c constraints.txt
	# The list is complete, so pip needs to resolve nothing: 4 minutes instead of 12.
	$(BIN)/pip install -q --no-deps -r constraints.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	touch $@

demo: install  ## the whole line on this environment's own documentation, about 10 minutes
	$(BIN)/rayline run quickstart
	$(BIN)/rayline serve quickstart --check "Return the eigenvalues and right eigenvectors of a square array."

test: install  ## all tests but the slow ones
	# What starts no Ray on every core, then what does, which needs them all.
	$(BIN)/python -m pytest -m "not slow and not ray" -n auto
	$(BIN)/python -m pytest -m "ray and not slow"

test-ray: install  ## the tests that start a local Ray
	$(BIN)/python -m pytest -m "ray and not slow"

faults: install  ## three corpora and three trainings killed at random
	$(BIN)/python -m pytest -m slow tests/corpus/test_faults.py tests/train/test_faults.py

e2e: install  ## the slow tests: every stage killed and resumed, every command of the README
	$(BIN)/python -m pytest -m slow

check: lint imports types test  ## what CI runs, but for `make faults`

lint: install  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

imports: install  ## the five rules of docs/architecture.md
	$(BIN)/lint-imports

types: install  ## mypy --strict
	$(BIN)/mypy

serve: install  ## serve what the demo made
	$(BIN)/rayline serve quickstart

clean:  ## remove everything that is made
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
