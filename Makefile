# Each target makes what it needs: .venv from the lock, downloads into a cache outside the checkout. No questions.
.DEFAULT_GOAL := help
.PHONY: image image-base image-test kube chart help run dev train-env test test-fast check format lock clean
# where it is set, every process would compile all that it imports anew: twice the CPU of a start
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
ENGINE ?= $(shell command -v podman || command -v docker)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BIN := .venv/bin
UV := $(BIN)/uv

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
	@echo
	@echo 'make run ARGS="--for 180 --fresh --report r.json"    see: .venv/bin/quantum up --help'

.venv/bootstrap.stamp: lock/bootstrap.lock
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r lock/bootstrap.lock
	@touch $@

.venv/run.stamp: .venv/bootstrap.stamp lock/run.lock pyproject.toml
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/run.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev.stamp: .venv/run.stamp lock/dev.lock
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/dev.lock
	@touch $@

run: .venv/run.stamp ## the whole street: broker, ClickHouse, exchange, workers; Ctrl-C drains and stops (ARGS="...")
	@$(BIN)/quantum up $(ARGS)

test: .venv/dev.stamp ## all tests, broker and whole-stack ones too
	$(BIN)/python -m pytest -m "not full and not stack and not helm and not kube and not image" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/python -m pytest tests/e2e -m "stack and not full" $(ARGS)

dev: .venv/dev.stamp ## .venv with everything for tests and for training on trees

.venv/train.stamp: .venv/dev.stamp lock/train.lock
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r lock/train.lock
	@touch $@

train-env: .venv/train.stamp ## torch too (gigabytes), for the two networks

test-fast: .venv/dev.stamp ## unit and property tests only
	$(BIN)/python -m pytest tests/unit tests/property -m "not helm" $(ARGS)

chart: .venv/dev.stamp ## render, lint and validate the Helm chart (helm is built by Go once, where there is none)
	$(BIN)/python -m pytest tests/unit/test_chart.py $(ARGS)

kube: .venv/dev.stamp ## install the chart on a real Kubernetes API with simulated pods (Go builds it once, 10-40 minutes)
	@$(BIN)/python -m tests.kube.built
	$(BIN)/python -m pytest tests/kube -m kube $(ARGS)

check: .venv/dev.stamp ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

image: ## the container image, by podman or docker (ENGINE=..., IMAGE_ARGS="--target train")
	$(ENGINE) build -f Containerfile -t quantum-trader:$(VERSION) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse --short HEAD) $(IMAGE_ARGS) .

image-test: .venv/dev.stamp ## every worker from that image by podman, hardened: a whole trade; prints size and times (QUANTUM_IMAGE=...)
	$(BIN)/python -m pytest tests/image -m image $(ARGS)

image-base: ## a base for it without a registry of images: Debian by debootstrap, as root
	rm -rf var/base && mkdir -p var && debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,tini,libgomp1 bookworm var/base
	tar -C var/base -c . | $(ENGINE) import - quantum-base:bookworm
	rm -rf var/base

format: .venv/dev.stamp ## rewrite files as `make check` wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/bootstrap.stamp ## pin again what pyproject.toml asks for
	$(UV) pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 lock/bootstrap.in -o lock/bootstrap.lock
	$(UV) pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 --extra embedded pyproject.toml -o lock/run.lock
	$(UV) pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml -c lock/run.lock -o lock/serve.lock
	$(UV) pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 --extra embedded --extra trees --extra dev pyproject.toml -c lock/run.lock -o lock/dev.lock
	$(UV) pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 --extra train pyproject.toml -c lock/dev.lock -o lock/train.lock

clean: ## remove .venv and the run directory
	rm -rf .venv var
