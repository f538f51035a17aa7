# The course and its tests. `make run` and `make test` install what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
NOTEBOOKS := $(sort $(wildcard notebooks/0*.ipynb))
STAMP := $(VENV)/.installed
CLIENTS := .venv-clients
# Bytecode is written once, at installation: without it, importing TensorFlow takes twice as long.
INSTALL := $(UV) pip install --quiet --compile-bytecode --python
LOCK = $(UV) pip compile $(UPGRADE) --quiet --no-annotate --universal --python-version 3.11 --fork-strategy fewest \
    --no-emit-package localmode --no-emit-package managed-spot-training-workshop --custom-compile-command 'make lock'
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH

.PHONY: env toolkit clients browser lock upgrade run test test-docker lint normalize bench lab clean

env: $(STAMP)  ## install everything that the course and its tests need into .venv

$(UV):
	@$(PYTHON) -c 'import platform as p, sys; v = sys.version_info[:2]; \
	    (3, 11) <= v <= (3, 13) or sys.exit(f"TensorFlow 2.21 needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is " \
	        f"{v[0]}.{v[1]}: make PYTHON=python3.13 ... names another one"); \
	    (p.system(), p.machine()) != ("Darwin", "x86_64") or sys.exit("TensorFlow 2.21 does not run on Intel Macs")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.8

$(STAMP): requirements.txt requirements.lock pyproject.toml localmode/pyproject.toml | $(UV)
	@echo "Installing TensorFlow, the SageMaker SDK and their dependencies into $(VENV): 3 GB, one to two minutes"
	@$(INSTALL) $(BIN)/python --constraint requirements.lock --requirement requirements.txt
	@touch $@

toolkit: $(VENV)/.toolkit  ## install the `train` command of sagemaker-training, for training jobs without an entrypoint; needs gcc

$(VENV)/.toolkit: requirements-toolkit.txt $(STAMP)
	@$(INSTALL) $(BIN)/python --constraint requirements.lock --requirement $<
	@touch $@

clients: $(CLIENTS)/.installed  ## install SDK v2 and the AWS command line, for the tests, into .venv-clients

$(CLIENTS)/.installed: requirements-clients.txt requirements-clients.lock | $(STAMP)
	@echo "Installing SageMaker SDK v2 and the AWS command line, for the tests, into $(CLIENTS): about a minute"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(CLIENTS)
	@$(INSTALL) $(CLIENTS)/bin/python --constraint requirements-clients.lock --requirement $<
	@touch $@

browser: $(VENV)/.browser  ## install JupyterLab, and Playwright for its tests

# JupyterLab installs rfc3987-syntax, which jsonschema does not need and which adds 1.7 s to each import of the SageMaker
# SDK.
$(VENV)/.browser: requirements-lab.txt $(STAMP)
	@$(INSTALL) $(BIN)/python --constraint requirements.lock --requirement $<
	@$(UV) pip uninstall --quiet --python $(BIN)/python rfc3987-syntax
	@touch $@

lock: | $(UV)  ## update the lock files after a change of the requirements
	@$(LOCK) --output-file requirements.lock requirements.txt requirements-lab.txt requirements-toolkit.txt
	@$(LOCK) --output-file requirements-clients.lock requirements-clients.txt

upgrade:  ## pin the newest releases within the major versions, in the requirements and the lock files
	$(PYTHON) .ci/drift.py loosen
	$(MAKE) lock UPGRADE=--upgrade
	$(PYTHON) .ci/drift.py pin

run: env  ## run the whole course in local mode; the executed notebooks and pages go to build/
	$(BIN)/python -m workshop.publish.run

test: env clients browser  ## all tests; after `make toolkit` also those that need it; COVERAGE=1 measures localmode's lines
	$(BIN)/python -m pytest $(if $(COVERAGE),--cov --cov-report=term)

test-docker: env clients  ## the tests of the docker runner, with a running Docker engine; containers/engine.sh starts one
	@if docker info >/dev/null 2>&1; then containers/test.sh; \
	elif [ "$$CI" = true ]; then echo "test-docker: no Docker engine answers, and in CI one must"; exit 1; \
	else echo "test-docker: skipped, since no Docker engine answers (docker info says why)"; fi

lint: env  ## ruff, mypy, and the imports that .importlinter allows
	$(BIN)/ruff check
	$(BIN)/ruff format --check --exclude '*.ipynb'
	$(BIN)/ruff format --check --line-length 92 $(NOTEBOOKS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

normalize: env  ## run the course and store its outputs in the notebooks
	$(BIN)/python -m workshop.publish.run
	$(BIN)/python -m workshop.publish.normalize --from build

bench: env  ## benchmarks: ratios, medians, spread
	$(BIN)/python tests/bench/overhead.py
	$(BIN)/python tests/bench/load.py
	$(BIN)/python tests/bench/kills.py
	$(BIN)/python tests/bench/serving.py
	$(BIN)/python tests/bench/training.py
	$(BIN)/python tests/bench/versions.py
	@if docker info >/dev/null 2>&1; then containers/image.sh && $(BIN)/python tests/bench/containers.py; \
	else echo "containers.py: skipped, because no Docker engine answers"; fi

lab: browser  ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

clean:  ## stop localmode and remove what was built; .venv stays
	-$(BIN)/python -m localmode reset
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
