# Two commands: `make demo` and `make test`. Each sets up what it needs.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint clean

demo: .venv/.installed
	$(BIN)/autoprompt run search_spaces/support.toml

test: .venv/.tested lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: .venv/.tested
	$(BIN)/ruff check autoprompt tests
	$(BIN)/ruff format --check autoprompt tests
	$(BIN)/mypy

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.tested: .venv/.installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
