# `make demo` and `make test` need git, make and Python 3.11 or later; they install the rest, as root or with sudo.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
STATE := $(or $(QTRADE_STATE_DIR),$(CURDIR)/.state)
export QTRADE_STATE_DIR := $(STATE)
# Hundreds of processes import the same modules; some machines set this to anything.
export PYTHONDONTWRITEBYTECODE :=
RUN := $(SUDO) env QTRADE_STATE_DIR=$(STATE)
VERSION ?= 0.1.0
HINT := $(strip $(SUDO) $(BIN)/qtrade)

# For roots (mmdebstrap), the chambers of bakes (util-linux, mount, iproute2), partition tables in the agent's tests (fdisk), the .debs and
# the signed repository of the stand-ins (gpg, apt-utils, dpkg-dev), component signatures (gpgv), SSH, the shifted clock of a verifying bake (libfaketime), tests of block maps
# (bmap-tools) and of gRPC by another client (curl), DHCP for PXE (dnsmasq-base). Packer is Debian 12's: installed where apt has it, else qtrade unpacks it.
PACKAGES := mmdebstrap debian-archive-keyring util-linux fdisk mount iproute2 gpg gpg-agent gpgv apt-utils dpkg-dev openssh-client openssl libfaketime python3-venv bmap-tools curl dnsmasq-base

.PHONY: help setup standins tools demo test lint unit integration e2e torture bench bench-bake bench-flash bench-drift bench-judge bench-startup schemas wheel docs docs-tables docs-links

help:
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(VENV)/.installed ## install what qtrade needs

$(VENV)/.installed: pyproject.toml Makefile
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) $$(apt-cache policy packer | grep -q 'Candidate: [0-9]' && echo packer || true)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile -e '.[dev]'
	touch $@

standins: setup ## build the stand-ins' packages and their signed repository
	$(RUN) $(BIN)/python tests/standins/build.py --out $(STATE)/standins/apt

demo: standins tools ## bake the lab image, flash a virtual bare-metal host with it, show that it is healthy
	@set -e; $(RUN) $(BIN)/qtrade bake --version $(VERSION); \
	trap '$(RUN) $(BIN)/qtrade lab down' EXIT; \
	$(RUN) $(BIN)/qtrade lab up --owner-pid $$$$; \
	$(RUN) $(BIN)/qtrade flash --host lab-1 --version $(VERSION) --yes; \
	$(RUN) $(BIN)/qtrade hosts show lab-1; \
	printf '\n%s\n' "lab-1 was flashed with lab $(VERSION) and is healthy; it is switched off now. Where to look next:"; \
	printf '  %-54s %s\n' "$(HINT) lab up --power-on" "start it again" \
	  "$(HINT) hosts show lab-1" "what it says of itself" \
	  "$(HINT) flash --host lab-1 --dry-run" "what a flash would do" \
	  "$(STATE)/lab/lab-1/console.log" "its console" \
	  "docs/architecture.md" "how it works"

# Bakes that take minutes of one core, which the guests of e2e leave idle in the end.
BESIDE_GUESTS := tests/integration/test_locked_bake.py tests/integration/test_component_build.py

test: setup ## everything
	$(MAKE) --no-print-directory -j 4 --output-sync=line lint standins tools unit
	$(MAKE) --no-print-directory integration ARGS='$(BESIDE_GUESTS:%=--ignore=%)'
	$(MAKE) --no-print-directory e2e ARGS='$(BESIDE_GUESTS)'

lint: setup ## style, types, imports, workflows, roles, templates
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor -q --offline .github/workflows
	cd ansible && ANSIBLE_COLLECTIONS_PATH=collections ../$(BIN)/ansible-lint --offline --strict --profile production playbooks roles

unit: setup ## no root, no network
	$(BIN)/pytest -n 5 tests/unit

integration: standins tools ## real tools; root
	$(RUN) $(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=15 $(ARGS) tests/integration

e2e: standins tools ## boots machines; root
	$(RUN) $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25 tests/e2e $(ARGS)

torture: standins tools ## faults at seeded moments, for hours; root. ARGS go to pytest: ARGS='--seed 7 -k cut'
	mkdir -p $(STATE)/torture
	$(RUN) $(BIN)/pytest --durations=0 $(ARGS) tests/torture 2>&1 | tee -a $(STATE)/torture/torture.log

tools: setup ## make the root with QEMU, mkfs.erofs and GRUB
	$(RUN) $(BIN)/qtrade tools

wheel: setup ## build dist/*.whl, which runs anywhere: pipx install dist/qtrade-*.whl
	rm -rf build dist
	$(BIN)/python -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w dist .
	rm -rf build

schemas: setup ## write what is made of code: JSON Schemas of manifests and of --json, READMEs of the roles, the table of docs/workflows.md, pictures
	$(BIN)/python -m qtrade.manifest.schemas
	$(BIN)/python -m bake.role_docs
	$(BIN)/python -m qtrade.cli.documents
	$(BIN)/python -m qtrade.github.table
	$(BIN)/python -m docs.site.pictures

docs: setup ## build the site of the documentation; a warning is an error; needs no network
	$(BIN)/python -m docs.site

docs-tables: setup ## write the pages that are made of code and tests: bad inputs, exit codes, what the judge says
	$(BIN)/python -m qtrade.exit_codes
	$(BIN)/python -m tests.unit.bad_inputs.page
	$(BIN)/python -m tests.unit.judge.page

docs-links: setup ## ask every address that the documentation leads to; needs the network
	$(BIN)/python -m docs.site --links

bench: standins tools ## medians of qtrade's bakes: cold, nothing changed, a low, a middle and the last layer changed
	$(RUN) $(BIN)/python -m tests.bench --only qtrade --no-report $(ARGS)

# What `make bench-bake` compares with. mkosi is not on the Python index, and Ubuntu's and Debian 13's differ from Debian 12's.
BENCH_PACKAGES := mkosi debootstrap kpartx sudo

bench-bake: standins tools ## bakes by qtrade, Packer + Ansible, mkosi, diskimage-builder and mmdebstrap, into docs/bench.md; 20 minutes
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(BENCH_PACKAGES)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	$(RUN) $(BIN)/python -m tests.bench $(ARGS)

bench-flash: standins tools ## the data path of a flash beside zstd | dd and a plain writer, and flashes of a lab host, into docs/bench-flash.md; 25 minutes
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends zstd curl
	$(RUN) $(BIN)/python -m tests.bench.flash $(ARGS)

bench-drift: setup ## qtrade drift of a hundred simulated hosts, over real SSH; half a minute
	$(RUN) $(BIN)/python -m tests.bench.drift $(ARGS)

bench-judge: setup ## how often the judge is wrong on generated soaks, into tests/bench/judge_rates.json and docs/judge.md; minutes
	$(BIN)/python -m tests.bench.judge $(ARGS)
	$(BIN)/python -m tests.unit.judge.page

bench-startup: setup ## qtrade --help beside python -c pass, and what it imports; seconds
	$(BIN)/python -m tests.bench.startup $(ARGS)
