# TESTS='tests/system/test_lab.py -k thin' chooses tests, KERNEL=6.12 the kernels. See CONTRIBUTING.md.
# uml-6.1 and uml-6.12 are kernels that run as a process; 6.1 and 6.12 are stock ones in QEMU, many times slower without KVM.
KERNEL ?=
UML := uml-6.1 uml-6.12
EVERY := $(UML) 6.12 6.1
SHELL_KERNEL = $(firstword $(KERNEL) uml-6.1)
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$name && break; done)
VENV := .venv/bin
LAB := $(VENV)/python -m tests.lab
SETUP = $(if $(PYTHON),,$(error Python 3.11 or newer is needed: apt-get install python3))$(PYTHON) -m tests.lab.setup
SUITE = $(VENV)/python -m tests.lab.suite
TESTS ?=

# The files of unit tests that `make unit` has skipped for want of a program; `make rest` installs it and runs them.
LEFT_OUT := .lab/left-out

# They take the package from dist/ and Ansible from .lab/tools, which other targets leave there.
SHIPPED := tests/system/test_package.py tests/system/test_ansible.py tests/system/test_walk.py

SERVER := /opt/borg-lvm
PROGRAMS := borg-lvm borg-lvm-borg borg-lvm-restic
RELEASES ?= bookworm trixie

# Images of Python set it: then pytest rewrites each module of tests at each start, in guests too, and every program of ours
# that a test starts is compiled again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install uninstall deb rpm docs kit release release-trial setup setup-test releases lint unit pythons changelog system test test-full rest shipped control shell demo soak fuzz zfs bench fresh clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

# build/ of an earlier state would bring modules that are gone since.
# Not below $(SERVER): the links, which PATH and the units name, and what setup writes.
install: ## on a server, as root: install or upgrade the program, links in /usr/local/sbin, units, man pages …; starts nothing
	$(if $(PYTHON),,$(error Python 3.11 or newer is needed: apt-get install python3))$(PYTHON) -m venv $(SERVER)
	rm -rf build
	$(SERVER)/bin/pip install --quiet --disable-pip-version-check .
	install -d /usr/local/sbin
	ln -sf $(addprefix $(SERVER)/bin/,$(PROGRAMS)) /usr/local/sbin/
	/usr/local/sbin/borg-lvm setup --write

uninstall: ## remove what install has installed; the configuration and the history stay
	/usr/local/sbin/borg-lvm setup --remove
	rm -f $(addprefix /usr/local/sbin/,$(PROGRAMS))
	rm -rf $(SERVER)

deb: ## build the Debian packages of RELEASES, each in a bare system, and try them there; they are left in dist/
	@$(PYTHON) -m tests.lab.debs --try $(RELEASES)

rpm: ## build an RPM package in a bare Debian, where rpmlint looks at it; it is left in dist/rpm
	@$(PYTHON) -m tests.lab.rpms

# Before: $(PYTHON) -m tests.release version 1.2.3, which assembles CHANGELOG.md, commits and tags.
release: ## build all files of a release, from its tag, with checksums and a bill of materials, into dist/release
	@$(PYTHON) -m tests.release make $(RELEASES) --rpm

release-trial: ## try a release of this commit, without packages, in a scratch clone: a minute
	@$(PYTHON) -m tests.release.trial

docs: setup-test ## make the documentation's site in .lab/site/html, without a broken link or anything that is fetched elsewhere
	@$(VENV)/python -m tests.site

kit: ## check alerts, Ansible's role and scripts that notify with the programs that they are for
	@$(SETUP) soak $(firstword $(UML))
	@$(PYTHON) -m tests.lab.tools kit ansible-lint --offline --profile production contrib/ansible
	@$(VENV)/python -m pytest -q tests/unit/contrib

setup: ## install what the other targets need
	@$(SETUP) full $(EVERY)

setup-test:
	@$(SETUP) test $(or $(KERNEL),$(UML))

releases: ## unpack programs of other Debian releases, which soak tests
	@$(PYTHON) -m tests.lab.releases

lint: setup-test ## run ruff, mypy and codespell
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check borg_lvm hooks tests
	@$(VENV)/mypy
	@$(VENV)/codespell

unit: setup-test ## run the unit tests; no root needed
	@mkdir -p .lab
	@$(VENV)/python -m pytest -q -n auto tests/unit --left-out $(LEFT_OUT)

demo: ## show in a guest what borg-lvm does: two minutes
	@$(SETUP) demo $(or $(KERNEL),nearest)
	@$(LAB) run --kernel $(or $(KERNEL),nearest) -- $(VENV)/python -m tests.demo

# mypy takes one processor, the unit tests all that there are.
test: setup-test ## lint, unit tests, and a system test for each promise of README, on two kernels: minutes
	@$(MAKE) --no-print-directory --jobs=2 lint unit
	@$(SUITE) test $(addprefix --kernel=,$(or $(KERNEL),$(UML)))

test-full: test rest ## test, then all other system tests, also on stock kernels in QEMU: 35 minutes

rest: ## run what test-full runs after test
	@$(SETUP) full $(or $(KERNEL),$(UML) 6.12)
	@files=$$(cat $(LEFT_OUT) 2>/dev/null || echo tests/unit); test -z "$$files" || $(VENV)/python -m pytest -q -n auto -m needs $$files
	@$(SUITE) rest $(addprefix --kernel=,$(or $(KERNEL),$(UML) 6.12))

system: ## run the system tests in TESTS, on KERNEL
	@$(SETUP) full $(or $(KERNEL),$(UML))
	@$(SUITE) full $(addprefix --kernel=,$(or $(KERNEL),$(UML))) -- $(TESTS)

shipped: deb kit docs release-trial ## build what a release brings: packages, Ansible's role, site; then set up servers from them
	@$(SUITE) soak --kernel=$(SHELL_KERNEL) -- $(SHIPPED)

control: setup-test ## seed faults, one for each promise, and check that make test finds them: half an hour
	@$(VENV)/python -m tests.control --good --kernel $(SHELL_KERNEL)
	@$(VENV)/python -m tests.control --kernel $(SHELL_KERNEL)

soak: releases control deb rpm docs kit release-trial ## control, the packages and a release, then every system test on every kernel, with the long counts: hours
	@$(VENV)/python -m tests.fuzz --cases 20000
	-@$(VENV)/python -m tests.lab.zfs
	@$(SETUP) full $(or $(KERNEL),$(EVERY))
	@$(VENV)/python -m tests.control --moved --kernel $(SHELL_KERNEL)
	@$(SUITE) soak --timeout 86400 $(addprefix --kernel=,$(or $(KERNEL),$(EVERY))) -- $(TESTS)

# FUZZ='borg tar' chooses, CASES=20000 is what the soak takes; a seed that found something is given again by SEED=….
FUZZ ?=
CASES ?= 2000
fuzz: setup-test ## compare our readers of command lines with the programs' own, on random lines
	@$(VENV)/python -m tests.fuzz $(FUZZ) --cases $(CASES) $(if $(SEED),--seed $(SEED))

zfs: ## build ZFS for the lab's kernel 6.12 (half an hour, once), then run its tests there
	@$(SETUP) full 6.12
	@$(VENV)/python -m tests.lab.zfs
	@$(SUITE) soak --timeout 14400 --kernel=6.12 -- tests/system/test_zfs.py

pythons: setup-test ## run the unit tests on every installed Python from 3.11 on
	@$(PYTHON) -m tests.lab.pythons

changelog: ## print the unreleased part of CHANGELOG.md
	@$(PYTHON) -m tests.lab.tools release towncrier build --draft --version unreleased 2>/dev/null

bench: releases ## measure for how long volumes are suspended and applications quiesced
	@$(SETUP) full $(SHELL_KERNEL)
	@$(LAB) run --kernel $(SHELL_KERNEL) -- $(VENV)/python -m tests.bench

shell: ## open a shell in a guest; leave it with exit
	@$(SETUP) full $(SHELL_KERNEL)
	@$(LAB) shell --kernel $(SHELL_KERNEL)

RELEASE ?= trixie
fresh: ## run make demo and make test (twice) in a bare Debian of RELEASE
	@$(PYTHON) -m tests.lab.fresh $(RELEASE) $(FRESH)

clean: ## remove everything that make has made
	rm -rf .lab .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info build dist
