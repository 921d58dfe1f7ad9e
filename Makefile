# Two commands for a fresh machine: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow privacy families check format proto clean

demo: .venv/installed
	$(BIN)/python deploy/demo.py

test: .venv/installed
	$(BIN)/python -m pytest

slow: .venv/installed
	$(BIN)/python -m pytest -m slow --no-loadscope-reorder --durations=25

privacy: .venv/installed
	$(BIN)/python -m pytest -m promise --promises=tests/PRIVACY.md

families: .venv/installed
	$(BIN)/python -m pytest tests/families -m '' --dist load --families=tests/FAMILIES.md

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check
	$(BIN)/python -m tests.guides

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: .venv/installed
	$(BIN)/python proto/generate.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("promptferry needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo-out demo-cache
