# `make demo` and `make test` need git, make and Python 3.11 or later; they install the rest, as root or with sudo.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
STATE := $(or $(QTRADE_STATE_DIR),$(CURDIR)/.state)
export QTRADE_STATE_DIR := $(STATE)

# What the programs of Debian and Ubuntu are needed for: roots (mmdebstrap), bakes (packer and namespaces), the .debs and the
# signed repository of the stand-ins, SSH, the network namespaces of the tests.
PACKAGES := mmdebstrap debian-archive-keyring packer util-linux mount iproute2 gpg gpgv apt-utils dpkg-dev openssh-client openssl python3-venv

.PHONY: help setup standins demo test lint unit integration e2e bench schemas clean

help:
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(VENV)/.installed ## install what qtrade needs

$(VENV)/.installed: pyproject.toml Makefile
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@

standins: setup ## build the stand-ins' packages and their signed repository
	$(BIN)/python tests/standins/build.py --out $(STATE)/standins/apt

demo: standins ## bake the lab image, flash a virtual bare-metal host with it, show that it is healthy
	$(SUDO) env QTRADE_STATE_DIR=$(STATE) $(BIN)/qtrade bake --version 0.1.0
	$(BIN)/qtrade lab up
	$(BIN)/qtrade flash --host lab-1 --version 0.1.0 --yes

test: lint unit integration e2e ## everything

lint: setup ## style, types, imports, roles, templates
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/ansible-lint --offline ansible

unit: setup ## no root, no network
	$(BIN)/pytest tests/unit

integration: standins ## real tools; root
	$(SUDO) env QTRADE_STATE_DIR=$(STATE) $(BIN)/pytest tests/integration

e2e: standins ## boots machines; root
	$(SUDO) env QTRADE_STATE_DIR=$(STATE) $(BIN)/pytest tests/e2e
