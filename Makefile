# Two commands matter: `make demo` shows cnnc at work, `make test` checks it. Both need only Python 3.10+ and make.

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo-out
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test check lint types layers unit test-all format clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo      compile and train LeNet-5 on handwritten digits, and show the result'
	@echo 'make test      install what the tests need, then lint, types, layers and tests'
	@echo 'make check     the same; what CI runs'
	@echo 'make test-all  and the slow tests too'
	@echo 'make format    format the sources'
	@echo 'make clean     remove what was built (the virtual environment stays)'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "cnnc needs Python 3.10 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[data]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/cnnc summary models/lenet5.cnn
	@rm -rf $(OUT)
	$(BIN)/cnnc train models/lenet5.cnn --data digits --out $(OUT)
	$(BIN)/python examples/show_digits.py $(OUT)/best.safetensors

test: check

check: lint types layers unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports --no-logo

unit: $(VENV)/.dev
	$(BIN)/pytest -n auto -m 'not slow'

test-all: lint types layers
	$(BIN)/pytest -n auto

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist $(OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find cnnc tests examples -name __pycache__ -prune -exec rm -rf {} +
