# One command for each thing. Everything runs in .venv, which `make setup` builds and keeps current.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.up-to-date
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

.PHONY: setup demo up worker gateway flower test chaos lint bench browser clean

setup: $(STAMP)

# torch goes first and alone: asked for together with the others, pip may choose a newer build.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cli,pil,gateway,page]'
	touch $(STAMP)

# Captions the sample images and answers questions about them through the real system.
demo: setup
	$(BIN)/python -m demo

# The same system, kept running: Redis, a worker, the gateway and Flower, in the foreground.
up: setup
	$(BIN)/python -m demo up

worker: setup
	$(BIN)/python -m worker

# HTTP and the page; `make gateway GATEWAY="--port 8080"` for other options.
gateway: setup
	$(BIN)/blipline gateway $(GATEWAY)

flower: setup
	$(BIN)/celery -A worker.celery_app flower --conf=config/flowerconfig.py

test: setup browser
	$(BIN)/python -m pytest

# The page is tested in a real browser, which pip cannot install.
browser:
	@command -v chromium >/dev/null || { \
	    echo "installing chromium for the tests of the page" && \
	    $(SUDO) apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
	    || echo "chromium is not installed, and cannot be: the tests of the page will fail"

# A hundred faults while work goes on; say CHAOS="--seed 2 --faults 400 --minutes 60" for others.
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
