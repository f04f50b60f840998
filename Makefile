# `make demo` and `make test` are all a fresh machine needs: python3 (>= 3.11), pip and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/checkerboard

.PHONY: demo test test-slow test-peers lint types bench clean

$(VENV)/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/.base
	$(BIN)/jaxland explore checkerboard --out $(OUT)

# Two workers, whole files each: module-wide landscapes are built once.
test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -q -m "slow and not peers"

test-peers: $(VENV)/.test
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/python -m pytest -q -m peers

lint: $(VENV)/.test
	$(BIN)/ruff check jaxland tests benchmarks examples
	$(BIN)/ruff format --check jaxland tests benchmarks examples

types: $(VENV)/.test
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python -m pytest benchmarks -q -m "" -p no:cacheprovider --benchmark-only --benchmark-columns=min,median,rounds

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
