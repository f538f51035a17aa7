# The course and its tests. `make run` and `make test` set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(sort $(wildcard notebooks/0*.ipynb))
STAMP := $(VENV)/.installed
CLIENTS := .venv-clients
# Bytecode is written once, at installation: without it, importing TensorFlow takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH

.PHONY: env toolkit clients browser run test test-docker lint normalize bench lab clean

env: $(STAMP)  ## set up .venv; redone when requirements.txt changes

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v not in ((3, 11), (3, 12)) and \
	    f"TensorFlow 2.19 and this course need Python 3.11 or 3.12, not {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.8
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirement requirements.txt
	@touch $@

toolkit: $(VENV)/.toolkit  ## what SDK v2 and tuning jobs start in an image: `train`, of sagemaker-training; needs gcc

$(VENV)/.toolkit: $(STAMP)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --editable '.[toolkit]'
	@touch $@

clients: $(CLIENTS)/.installed  ## SDK v2 and the AWS command line, for the tests, away from SDK v3

$(CLIENTS)/.installed: requirements-clients.txt | $(STAMP)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(CLIENTS)
	$(BIN)/uv pip install --quiet --python $(CLIENTS)/bin/python --compile-bytecode --requirement $<
	@touch $@

browser: $(VENV)/.browser  ## JupyterLab, and what the tests open it with

# JupyterLab brings a checker of IRIs that jsonschema can do without, and which takes 1.7 s of every import of the
# SageMaker SDK.
$(VENV)/.browser: requirements-lab.txt $(STAMP)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --requirement $<
	$(BIN)/uv pip uninstall --quiet --python $(BIN)/python rfc3987-syntax
	@touch $@

run: env  ## the whole course, in local mode; executed notebooks and pages to read them on in build/
	$(BIN)/python -m workshop.publish.run

test: env clients browser  ## all tests; after `make toolkit` also those that need it
	$(BIN)/python -m pytest

test-docker: env clients  ## the tests of the docker runner, with a running Docker engine; containers/engine.sh starts one
	@if docker info >/dev/null 2>&1; then containers/test.sh; \
	elif [ "$$CI" = true ]; then echo "test-docker: no Docker engine answers, and in CI one must"; exit 1; \
	else echo "test-docker: skipped, since no Docker engine answers (docker info says why)"; fi

lint: env  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check --exclude '*.ipynb'
	$(BIN)/ruff format --check --line-length 92 $(NOTEBOOKS)
	$(BIN)/mypy

normalize: env  ## run the course and store its outputs in the notebooks
	$(BIN)/python -m workshop.publish.run
	$(BIN)/python -m workshop.publish.normalize --from build

bench: env  ## benchmarks: ratios, medians, spread
	$(BIN)/python tests/bench/overhead.py
	$(BIN)/python tests/bench/load.py
	$(BIN)/python tests/bench/kills.py
	$(BIN)/python tests/bench/serving.py
	$(BIN)/python tests/bench/training.py
	@if docker info >/dev/null 2>&1; then containers/image.sh && $(BIN)/python tests/bench/containers.py; \
	else echo "containers.py: skipped, since no Docker engine answers"; fi

lab: browser  ## JupyterLab on the course
	$(BIN)/jupyter lab notebooks

clean:  ## stop localmode and remove what was built; .venv stays
	-$(BIN)/python -m localmode reset
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
