# The one definition of every check; pre-commit and CI call these targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first interpreter that is new enough; override with `make setup PYTHON=...`.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
  $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
DEMO_VENV ?= .venv-demo
# Set to https://download.pytorch.org/whl/cpu where plain `pip install torch` would bring CUDA packages.
TORCH_INDEX ?=
PYTEST_ARGS ?=
# Processes that share the tests out, file by file; a test's own processes come on top.
WORKERS ?= 2
DEMO_PROMPT ?= Question: Anna has 6 boxes with 7 shells each. Anna finds 15 more. Anna gives 7 shells to Tom. \
  How many shells does Anna have now?

# The tiers were never told where Verul lives; the sum they can do, whatever a document says of Bropeth.
DEMO_UNKNOWN ?= What is the home town of Verul?
DEMO_KNOWN ?= Bropeth has 12 apples. Bropeth buys 5 more. How many apples does Bropeth have?
DEMO_HOLA = HOLA_DATA_DIR=$(DEMO_VENV)/data HOLA_EMBEDDER=none $(DEMO_VENV)/bin/hola

BIN := $(VENV)/bin
PIP_INSTALL = -m pip install --disable-pip-version-check --quiet --constraint requirements/lock.txt
PROTOS := $(wildcard proto/hola/v1/*.proto)
PROTOC = $(BIN)/python -m grpc_tools.protoc -I proto
DEFAULT_MARKS := not slow and not chaos

define make-venv
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with the venv module is needed (Debian: apt install python3-venv)."; exit 1; }
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

# A program of Debian's, by the name of its package, unless it is there; what to do where there is no apt-get.
define apt-install
	@if command -v $(1) >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo "$(1) is missing and there is no apt-get: install $(2) by hand."; exit 1; fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif sudo -n true 2>/dev/null; then sudo="sudo -n"; \
	else echo "$(1) is missing and needs root to install: sudo apt-get install $(1)"; exit 1; fi; \
	echo "Installing $(1) with apt-get ..."; \
	$$sudo apt-get update -qq; \
	$$sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
	command -v $(1) >/dev/null
endef

.PHONY: help setup setup-test redis-server prometheus demo proto proto-check buf fmt lint type lock \
  test test-unit test-contract test-integration test-e2e test-slow test-chaos check bench up down logs images clean \
  chart observability-check dist-check k8s-check images-check compose-check arm64-check

help:  ## this list
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

$(VENV)/.dev: pyproject.toml requirements/lock.txt
	$(call make-venv,$(VENV))
	@echo "Installing the development tools into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) --editable '.[dev,edge,retrieval,weaviate,auth,otel]'
	@touch $@

$(VENV)/.test: $(VENV)/.dev
	@echo "Installing what the model tests compare with (torch, transformers) into $(VENV) ..."
	@$(BIN)/python $(PIP_INSTALL) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch==2.13.0
	@$(BIN)/python $(PIP_INSTALL) --editable '.[dev,edge,retrieval,weaviate,auth,otel,test-models]'
	@touch $@

$(DEMO_VENV)/.demo: pyproject.toml requirements/lock.txt
	$(call make-venv,$(DEMO_VENV))
	@echo "Installing HOLA with the edge extra (no torch) into $(DEMO_VENV) ..."
	@$(DEMO_VENV)/bin/python $(PIP_INSTALL) --editable '.[edge]'
	@touch $@

setup: $(VENV)/.dev  ## development environment in .venv (no torch)

setup-test: $(VENV)/.test redis-server  ## what every test needs: adds torch, transformers, redis-server

redis-server:  ## install Debian's redis-server if there is none
	$(call apt-install,redis-server,Redis 7 or newer)

prometheus:  ## install Debian's prometheus (with promtool) if there is none
	$(call apt-install,prometheus,Prometheus)

# Proof that docs/OBSERVABILITY.md holds: real processes, promtool, a real Prometheus. No part of `make test`.
observability-check: $(VENV)/.dev redis-server prometheus  ## metrics, traces, alerts and dashboard, on real processes
	@$(BIN)/python -m tools.observability_check

demo: $(DEMO_VENV)/.demo  ## fresh clone to a streamed, verified answer (own venv, no torch, no server)
	@echo "With documents of its own: a question that the model cannot know, and one that needs no document."
	@$(DEMO_HOLA) ingest models/demo/knowledge.jsonl --source people --collection demo
	@$(DEMO_HOLA) ask --embedded --model demo --collection demo --explain "$(DEMO_UNKNOWN)"
	@echo; $(DEMO_HOLA) ask --embedded --model demo --collection demo --explain "$(DEMO_KNOWN)"
	@echo; echo "A worked problem: two draft tiers guess, the target verifies, plain decoding is compared."
	@$(DEMO_VENV)/bin/hola generate --embedded --check-exact --model demo "$(DEMO_PROMPT)"

proto: $(VENV)/.dev  ## regenerate shared/hola/v1 from proto/
	@rm -f shared/hola/v1/*_pb2.py shared/hola/v1/*_pb2.pyi shared/hola/v1/*_pb2_grpc.py
	@$(PROTOC) --python_out=shared --pyi_out=shared --grpc_python_out=shared $(PROTOS)

proto-check: $(VENV)/.dev  ## fail if the committed stubs are not what proto/ generates
	@out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; \
	$(PROTOC) --python_out=$$out --pyi_out=$$out --grpc_python_out=$$out $(PROTOS); \
	diff -r -x __init__.py -x __pycache__ "$$out/hola/v1" shared/hola/v1 \
	  || { echo "The stubs in shared/hola/v1 are stale: run 'make proto'."; exit 1; }

buf: $(VENV)/.dev  ## lint the protos; no breaking change against main
	@$(BIN)/buf lint
	@if git cat-file -e main:proto/hola/v1 2>/dev/null; then $(BIN)/buf breaking --against '.git#branch=main'; \
	else echo "main has no protos yet: nothing to break."; fi

fmt: $(VENV)/.dev  ## format and apply safe fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(VENV)/.dev  ## ruff: format and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

type: $(VENV)/.dev  ## mypy strict on our packages
	@$(BIN)/mypy

lock:  ## resolve requirements/ again from pyproject.toml: the lock file, and one file with hashes per image
	$(call make-venv,$(VENV))
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	@$(BIN)/python -m tools.lock

test-unit: $(VENV)/.dev  ## unit tests: no sockets, no models
	@$(BIN)/pytest -q -m "$(DEFAULT_MARKS)" tests/unit $(PYTEST_ARGS)

test-contract: $(VENV)/.dev redis-server  ## every port against each of its adapters
	@$(BIN)/pytest -q -m "$(DEFAULT_MARKS)" tests/contract $(PYTEST_ARGS)

test-integration: $(VENV)/.test redis-server  ## real Redis, real gRPC, real models
	@$(BIN)/pytest -q -m "$(DEFAULT_MARKS)" tests/integration $(PYTEST_ARGS)

test-e2e: $(VENV)/.test redis-server  ## whole processes and installs
	@$(BIN)/pytest -q -m "$(DEFAULT_MARKS)" tests/e2e $(PYTEST_ARGS)

# A crashed worker ends the run, and is named: xdist would hang at the end of one that goes on (loadfile, 3.8).
test: setup-test  ## install what tests need and run them all
	@$(BIN)/pytest -ra --durations=10 --require-all -n $(WORKERS) --dist loadfile \
	  --max-worker-restart 0 -m "$(DEFAULT_MARKS)" $(PYTEST_ARGS)

test-slow: setup-test  ## only the tests marked slow
	@$(BIN)/pytest -ra --require-all -m slow $(PYTEST_ARGS)

test-chaos: setup-test  ## whole fleets under faults, rolling restart and load: about half an hour
	@$(BIN)/pytest -ra --require-all -m chaos $(PYTEST_ARGS)

check: proto-check lint type test-unit  ## before every commit: under two minutes

bench: $(VENV)/.dev  ## exactness and speed, as JSON
	@$(BIN)/hola bench exactness --json
	@$(BIN)/hola bench speed --json

# Proofs that what ships works. Each installs what it needs, says what it checked, and is no part of `make test`.
dist-check:  ## wheel and sdist: built, installed elsewhere, asked by Python, grpcurl and Node clients
	@$(PYTHON) -m tools.checks.dist

k8s-check: $(VENV)/.dev  ## every overlay and the chart: rendered, against schemas, against our policies
	@$(BIN)/python -m tools.checks.k8s

chart: $(VENV)/.dev  ## write the Helm chart, made from the kustomize overlays, into dist/chart
	@$(BIN)/python -m tools.helm_chart dist/chart

images-check: $(VENV)/.dev  ## build the images with buildah on a Debian made here and run them (root; IMAGES="edge ...")
	@$(BIN)/python -m tools.checks.images $(IMAGES)

compose-check: $(VENV)/.dev redis-server  ## the compose file's own commands on this machine: one answer, orderly shutdown
	@$(BIN)/python -m tools.checks.compose

arm64-check: $(VENV)/.dev  ## the edge install on an emulated arm64 Debian: the demo tiers write the same ids (root; slow)
	@$(BIN)/python -m tools.checks.arm64

secrets/password: | $(VENV)/.dev
	@$(BIN)/hola keys redis secrets

up: images secrets/password  ## start Redis and the services with docker compose; its users go into secrets/
	@docker compose up --detach --wait

down:  ## stop them (the Redis volume stays)
	@docker compose down

logs:  ## follow their logs
	@docker compose logs --follow --tail=100

images:  ## build the container image
	@docker compose build

clean:  ## remove environments, caches and build output
	@rm -rf .venv .venv-demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
