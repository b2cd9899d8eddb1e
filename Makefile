# pg_envelope: `make help` lists the targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# The distribution's Python, because PL/Python runs that one, whatever PATH says.
PYTHON ?= /usr/bin/python3
STACK ?= .stack
ARGS ?=
POINTS ?= 50
SEED ?=
MINUTES ?= 10
# One more than there are processors: tests also wait for servers that start and stop.
WORKERS ?= $(shell expr $$(nproc) + 1)
# The folder of the chroots in which other releases of Debian are tried.
FRESH ?= build/fresh
export PYTHON
export EXTRAS YES
ifdef PG_CONFIG
export PG_CONFIG
endif

VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" extension/pg_envelope.control)
SCRIPT := extension/pg_envelope--$(VERSION).sql
SQL := $(sort $(wildcard sql/[0-9]*.sql))
PIP := .venv/bin/python -m pip -qq --disable-pip-version-check
ON := $(if $(DOCKER),docker,machine)

.PHONY: help demo up down test compiled-tests test-on proof soak fresh lint bench install uninstall build packages clean

help: ## this list
	@echo "pg_envelope $(VERSION)"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables: PG_CONFIG (server to use), PYTHON (the one PL/Python runs), STACK (folder of make up), ARGS, DOCKER=1"

demo: ready-$(ON) ## show it at work on a private PostgreSQL and OpenBao, then remove both (DOCKER=1: in containers)
	@.venv/bin/python -m stack.demo $(if $(DOCKER),--docker) $(ARGS)

up: ready-$(ON) ## start a private PostgreSQL, OpenBao and broker, and leave them running (DOCKER=1: in containers)
	@.venv/bin/python -m stack up --dir $(STACK) $(if $(DOCKER),--docker)

down: ## end and remove what `make up` started
	@if [ -d $(STACK) ]; then .venv/bin/python -m stack down --dir $(STACK); fi

# Each worker reads what another one has compiled, and so does each command that a test starts.
unexport PYTHONDONTWRITEBYTECODE

test: export FOR_TESTS := 1
test: install .venv/.dev ## lint, then all tests (ARGS="-k name" for some)
	@$(MAKE) --no-print-directory -j2 lint compiled-tests
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

proof: export FOR_TESTS := 1
proof: export PROOF_POINTS := $(POINTS)
proof: export PROOF_SEED := $(SEED)
proof: install .venv/.dev ## kill -9 at 50 points of each procedure, KMS troubles, clock steps (POINTS=, SEED=)
	@.venv/bin/python -m pytest -s tests/proof tests/integration/client/test_every_command.py $(ARGS)

soak: export FOR_TESTS := 1
soak: export SOAK_MINUTES := $(MINUTES)
soak: export PROOF_SEED := $(SEED)
soak: install .venv/.dev ## a mixed load with restarts, seals, rotations, revocations; flat memory (MINUTES=10, SEED=)
	@.venv/bin/python -m pytest -s tests/proof/test_soak.py $(ARGS)

test-on: ## make test on another release of Debian (as root; SUITE=trixie has PostgreSQL 17, SUITE=forky 18)
	@$(if $(SUITE),,$(error SUITE=trixie (PostgreSQL 17) or SUITE=forky (PostgreSQL 18)))
	@stack/try-fresh.sh --suite $(SUITE) --worktree $(FRESH) test ARGS='$(ARGS)'

fresh: export FRESH := $(FRESH)
fresh: .venv/.dev ## README's installation on a bare Debian 12, and an application of Rails, in chroots (as root; FRESH=folder that keeps the base systems)
	@mkdir -p $(FRESH)
	@.venv/bin/python -m pytest -s tests/fresh $(ARGS)

lint: .venv/.dev ## ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/mypy --package stack
	@.venv/bin/mypy --package bench

# All workers begin at once, and each would rewrite the assertions of all tests for itself.
compiled-tests: .venv/.dev
	@[ -d tests/__pycache__ ] || .venv/bin/python -m pytest --collect-only -qq >/dev/null 2>&1 || true

bench: install .venv/.dev ## the benchmark, peers included
	@.venv/bin/python -m bench $(ARGS)

install: packages build .venv/.base ## build, check, and install into the server of PG_CONFIG (as root; EXTRAS="aws kmip")
	@deploy/server.sh install

uninstall: ## list what it removes, and with YES=1 remove it from the server of PG_CONFIG (as root)
	@deploy/server.sh uninstall

build: $(SCRIPT) ## the extension's script, from sql/

clean: down ## remove what was built here, and the stack
	@rm -rf build .venv extension/pg_envelope--*.sql .mypy_cache .ruff_cache .pytest_cache

packages: # what the machine lacks
	@deploy/packages.sh

# Written anew each time, kept when the same: a removed file in sql/ has no time stamp to compare.
$(SCRIPT): FORCE
	@mkdir -p build
	@{ echo '\echo Use "CREATE EXTENSION pg_envelope" to load this file. \quit'; cat /dev/null $(SQL); } >build/script.sql
	@cmp -s build/script.sql $@ || cp build/script.sql $@

.PHONY: FORCE ready-machine ready-docker
FORCE:
ready-machine: install .venv/.stack
ready-docker: packages .venv/.base .venv/.stack
	@deploy/docker.sh

# The project's own venv, in three steps: what builds the wheel, what the stack needs, what developers need. While pip
# works there is no .venv/.whole: what it leaves when it is killed cannot be mended by pip, and is made anew. Python
# compiles what it imports, which is a small part of it.
.venv/.base: pyproject.toml $(if $(wildcard .venv/.whole),,FORCE) | packages
	@echo "Making .venv ..."
	@[ -e .venv/.whole ] || $(PYTHON) -I -m venv --clear .venv
	@rm -f .venv/.whole
	@$(PIP) install $$(.venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	@$(PIP) install $$(.venv/bin/python -c 'import hatchling.build; print(*hatchling.build.get_requires_for_build_editable())')
	@touch $@ .venv/.whole

.venv/.stack .venv/.dev: .venv/.%: .venv/.base
	@echo "Installing pg-envelope[$*] into .venv ..."
	@rm -f .venv/.whole
	@$(PIP) install --no-compile --no-build-isolation --editable '.[$*]'
	@touch $@ .venv/.stack .venv/.whole
