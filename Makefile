# Everything runs in .venv, which `make install` and `make setup` build and update.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
STAMP := $(VENV)/.up-to-date
# Each of hundreds of processes in a test run would compile the modules again.
unexport PYTHONDONTWRITEBYTECODE
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

.PHONY: install setup demo up worker gateway flower image test test-exhaustive chaos lint bench browser prometheus clean

# What the system needs to run; `setup` adds what its tests need.
install: $(INSTALLED)
setup: $(STAMP)

# Install torch first and alone: together with the others, pip may choose a newer build.
$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch, transformers and the other packages into $(VENV): a few minutes, once"
	$(PIP) $$(grep '^torch==' requirements.txt)
	$(PIP) -r requirements.txt
	$(PIP) --editable '.[cli,pil,gateway,page,annotate,search]'
	touch $@

$(STAMP): $(INSTALLED) $(addprefix requirements-,dev.txt stores.txt tracing.txt torchvision.txt)
	$(PIP) -r requirements-dev.txt
	$(PIP) --no-deps --upgrade --target $(VENV)/torchvision -r requirements-torchvision.txt
	touch $@

# Caption the sample images and answer questions about them with the real system.
demo: install
	$(BIN)/python -m demo

# Keep the same system running in the foreground: Redis, a worker, the gateway and Flower.
up: install
	$(BIN)/python -m demo up

worker: install
	$(BIN)/python -m worker

# HTTP API and page; pass options as `make gateway GATEWAY="--port 8080"`.
gateway: install
	$(BIN)/blipline gateway $(GATEWAY)

flower: install
	$(BIN)/celery -A worker.celery_app flower --conf=config/flowerconfig.py

# Build the image with podman, and run the demo batch and stops under load from it. The index of torch:
# TORCH_INDEX=https://pypi.org/simple; options: IMAGE="--build-only". docs/deployment.md
image: setup
	$(BIN)/python -m deploy.image $(IMAGE)

# Lanes beyond the cores: tests wait for processes and timers as much as they compute. tests/lanes.py
# keeps a module, and modules with the same running system, in one lane.
LANES ?= 6
PYTEST := $(BIN)/python -m pytest --lanes $(LANES)
test: setup browser prometheus
	$(PYTEST)

# Each kind of fault by all of its members, of which `test` runs a sample.
test-exhaustive: setup browser prometheus
	$(PYTEST) --exhaustive

# The page's tests need a real browser, which pip cannot install: the shell without windows, which
# starts in less time, or all of Chromium where a distribution has no package of the shell.
APT_INSTALL := DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qq -y --no-install-recommends
browser:
	@command -v chromium-headless-shell >/dev/null || { \
	    echo "installing chromium for the tests of the page" && \
	    $(SUDO) apt-get update -qq && \
	    { $(APT_INSTALL) chromium-headless-shell >/dev/null 2>&1 \
	        || command -v chromium >/dev/null || $(APT_INSTALL) chromium >/dev/null; }; } \
	    || echo "chromium is not installed, and cannot be: the tests of the page will fail"

# Debian's package, unpacked only: installed, it would start a server.
PROMETHEUS := $(VENV)/prometheus
prometheus:
	@command -v promtool >/dev/null || test -x $(PROMETHEUS)/usr/bin/promtool || { \
	    echo "unpacking prometheus for the tests of monitoring" && \
	    mkdir -p $(PROMETHEUS) && cd $(PROMETHEUS) && \
	    { apt-get download -qq prometheus 2>/dev/null || \
	      { $(SUDO) apt-get update -qq && apt-get download -qq prometheus; }; } && \
	    dpkg -x prometheus_*.deb .; } \
	    || echo "prometheus cannot be unpacked: the tests of monitoring will fail"

# Inject a hundred faults under load; options: CHAOS="--seed 2 --faults 400 --minutes 60".
chaos: setup
	$(BIN)/python -m tests.faults.programme $(CHAOS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/test_names.py

bench: setup
	$(BIN)/python -m benchmarks.bulk
	$(BIN)/python -m benchmarks.engine --model demo

clean:
	rm -rf $(VENV) build dist *.egg-info demo/out
