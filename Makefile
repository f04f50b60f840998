# `make demo` and `make test` are all a fresh machine needs: python3 (>= 3.11), pip and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/checkerboard

.PHONY: demo papers test test-slow test-peers test-gpu lint types bench bench-table bench-compare bench-scaling bench-start docs gallery notebooks clean

$(VENV)/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/.base
	$(BIN)/jaxland explore checkerboard --out $(OUT)

# What the four source papers show, ours beside theirs: PAPERS="trim --small" for one chapter, --docs into docs/papers.
PAPERS ?=

papers: $(VENV)/.test
	$(BIN)/python -m examples.papers $(PAPERS)

# Two workers, whole files each: module-wide landscapes are built once.
test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

GPU_FIRST := tests/core/pallas/test_on_gpu.py
GPU_TESTS := tests/landscape/search/test_search.py tests/landscape/search/test_clusters.py tests/core

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -q -m "slow and not peers"

test-peers: $(VENV)/.test
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/python -m pytest -q -m peers

# The known answers, computed on the GPU of this machine; $(BIN) must hold a JAX that knows it (extras cuda12, cuda13).
test-gpu: $(VENV)/.test
	JAXLAND_TEST_GPU=1 $(BIN)/python -m pytest -q $(GPU_FIRST)
	JAXLAND_TEST_GPU=1 $(BIN)/python -m pytest -q -m "not slow and not peers" --ignore $(GPU_FIRST) $(GPU_TESTS)

lint: $(VENV)/.test
	$(BIN)/ruff check jaxland tests benchmarks examples
	$(BIN)/ruff format --check jaxland tests benchmarks examples
	$(BIN)/lint-imports --no-cache pyproject.toml

types: $(VENV)/.test
	$(BIN)/mypy

# Every core operation with its floor and peers, then the systems' own benchmarks; under ten minutes on one core.
BENCH := -m "" -p no:cacheprovider --benchmark-only --benchmark-columns=min,median,rounds
RUN ?= benchmarks/results/last.json
STORED ?= benchmarks/results/reference.json

bench: $(VENV)/.test
	$(BIN)/python -m pytest benchmarks/bench_core.py -q $(BENCH) --benchmark-json=$(RUN)
	$(BIN)/python -m pytest benchmarks/bench_landscape.py benchmarks/bench_clusters.py benchmarks/bench_kinetics.py benchmarks/bench_hessian.py benchmarks/bench_information.py benchmarks/bench_trim.py -q $(BENCH)

bench-table: $(VENV)/.test
	$(BIN)/python -m pytest benchmarks/bench_core.py -q $(BENCH) --benchmark-json=$(RUN)
	$(BIN)/python benchmarks/table.py write $(RUN) docs/performance.md

bench-compare: $(VENV)/.test
	$(BIN)/python benchmarks/table.py compare $(RUN) $(STORED)

bench-scaling: $(VENV)/.test
	$(BIN)/python benchmarks/scaling.py --page docs/performance.md

bench-start: $(VENV)/.test
	$(BIN)/python benchmarks/cold_start.py --page docs/performance.md

# The pictures of docs/gallery.md, made by the examples as they stand (some minutes).
GALLERY := noise_and_funnels pathsample_roundtrip
gallery: demo $(VENV)/.test
	for example in $(GALLERY); do $(BIN)/python examples/$$example.py || exit 1; done
	cp $(OUT)/disconnectivity.png docs/checkerboard.png
	$(BIN)/python docs/pictures.py runs docs/gallery

# The documentation, offline and strict, into site/.
docs: $(VENV)/.base
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 JAX_PLATFORMS=cpu $(BIN)/python -m mkdocs build -q

# The scripts of examples/notebooks as .ipynb, for Jupyter or Colab.
notebooks: $(VENV)/.base
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[notebook,sklearn]'
	$(BIN)/jupytext --to ipynb examples/notebooks/*.py

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
