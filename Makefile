# Everything runs in .venv, which `make setup` builds and updates.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.up-to-date
# Each of hundreds of processes in a test run would compile the modules again.
unexport PYTHONDONTWRITEBYTECODE
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

.PHONY: setup demo up worker gateway flower test chaos lint bench browser clean

setup: $(STAMP)

# Install torch first and alone: together with the others, pip may choose a newer build.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cli,pil,gateway,page,annotate,search]'
	touch $(STAMP)

# Caption the sample images and answer questions about them with the real system.
demo: setup
	$(BIN)/python -m demo

# Keep the same system running in the foreground: Redis, a worker, the gateway and Flower.
up: setup
	$(BIN)/python -m demo up

worker: setup
	$(BIN)/python -m worker

# HTTP API and page; pass options as `make gateway GATEWAY="--port 8080"`.
gateway: setup
	$(BIN)/blipline gateway $(GATEWAY)

flower: setup
	$(BIN)/celery -A worker.celery_app flower --conf=config/flowerconfig.py

# Lanes beyond the cores: tests wait for processes and timers as much as they compute. tests/lanes.py
# keeps a module, and modules with the same running system, in one lane.
LANES ?= 4
test: setup browser
	$(BIN)/python -m pytest -n $(LANES) --no-loadscope-reorder

# The page's tests need a real browser, which pip cannot install.
browser:
	@command -v chromium >/dev/null || { \
	    echo "installing chromium for the tests of the page" && \
	    $(SUDO) apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
	    || echo "chromium is not installed, and cannot be: the tests of the page will fail"

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
