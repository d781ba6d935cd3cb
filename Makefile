# One command for each thing. Everything runs in .venv, which `make setup` builds and keeps current.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.up-to-date

.PHONY: setup demo up worker flower test chaos lint bench clean

setup: $(STAMP)

# torch goes first and alone: asked for together with the others, pip may choose a newer build.
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.txt)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[cli,pil]'
	touch $(STAMP)

# Captions the sample images and answers questions about them through the real system.
demo: setup
	$(BIN)/python -m demo

# The same system, kept running: Redis, a worker and Flower, in the foreground.
up: setup
	$(BIN)/python -m demo up

worker: setup
	$(BIN)/python -m worker

flower: setup
	$(BIN)/celery -A worker.celery_app flower --conf=config/flowerconfig.py

test: setup
	$(BIN)/python -m pytest

# A hundred faults while work goes on; say CHAOS="--seed 2 --faults 400 --minutes 60" for others.
chaos: setup
	$(BIN)/python -m tests.faults.programme $(CHAOS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks.bulk
	$(BIN)/python -m benchmarks.engine --model demo

clean:
	rm -rf $(VENV) build dist *.egg-info demo/out
