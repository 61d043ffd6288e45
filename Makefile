# KERNEL=6.12 chooses one kernel, or 6.1 (uml-6.1 is one that runs as a process, many times faster without KVM); TESTS='tests/system/test_lab.py -k thin' chooses tests. See CONTRIBUTING.md.
KERNEL ?= uml-6.1 6.12
FIRST := $(firstword $(KERNEL))
EVERY := uml-6.1 uml-6.12 6.12 6.1
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv/bin
LAB := $(VENV)/python -m tests.lab
TESTS ?= tests/system
OTHERS := $(filter-out $(FIRST),$(KERNEL))
PARTS ?= $(if $(filter tests/system,$(TESTS)),24,1)

SERVER := /opt/borg-lvm

.PHONY: help install setup releases lint unit system test shell demo soak bench clean

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

# Not below $(SERVER): the links, which PATH and the units name, and the units, which administrators put there.
install: ## on a server, as root: the program, links to it in /usr/local/sbin, units of systemd; nothing is started
	$(PYTHON) -m venv $(SERVER)
	$(SERVER)/bin/pip install --quiet --disable-pip-version-check .
	install -d /etc/borg-lvm /usr/local/sbin /usr/local/lib/systemd/system
	ln -sf $(SERVER)/bin/borg-lvm $(SERVER)/bin/borg-lvm-borg $(SERVER)/bin/borg-lvm-restic /usr/local/sbin/
	install -m 644 contrib/systemd/*.service contrib/systemd/*.timer /usr/local/lib/systemd/system/

setup: ## install everything that the other targets need
	@$(PYTHON) -m tests.lab.setup full $(KERNEL)

releases: ## programs of other releases of Debian, which the soak tries
	@$(PYTHON) -m tests.lab.releases

lint: setup ## ruff and mypy
	$(VENV)/ruff check .
	$(VENV)/ruff format --check borg_lvm hooks tests
	$(VENV)/mypy

unit: setup ## tests that need no root
	$(VENV)/python -m pytest -q -n auto tests/unit

# The first kernel has most tests: guests share them, two for a processor, the large shares first. The other kernels' guests
# start before them, for they take longest.
SHARE = --share $$number/$(words $(KERNEL))
system: ## tests on real LVM: all on the first kernel, what depends on the kernel on the others
	@guests=; number=1; for kernel in $(OTHERS); do \
	  $(LAB) test --kernel $$kernel -- $(SHARE) $(TESTS) & guests="$$guests $$!"; number=$$((number + 1)); sleep 2; done; \
	number=0; status=0; seq 0 $$(($(PARTS) - 1)) | xargs -P $$((2 * $$(nproc))) -I {} \
	  $(LAB) test --kernel $(FIRST) -- $(SHARE) --part {}/$(PARTS) $(TESTS) || status=1; \
	for guest in $$guests; do wait $$guest || status=1; done; exit $$status

test: setup lint unit system ## all of it

shell: setup ## look around in a guest by hand; leave with exit
	@$(LAB) shell --kernel $(FIRST)

demo: KERNEL := $(FIRST)
demo: setup ## what borg-lvm does, in a guest, in a few minutes
	@$(LAB) run --kernel $(FIRST) -- $(VENV)/python -m tests.demo

soak: KERNEL := $(EVERY)
soak: setup releases ## every system test on every kernel, one kernel after the other
	@status=0; for kernel in $(KERNEL); do \
	  $(LAB) test --kernel $$kernel --env BORG_LVM_RUNS=40 --env BORG_LVM_JUDGED=10 --timeout 86400 -- $(TESTS) || status=1; done; \
	exit $$status

bench: setup releases ## how long things stand still
	@$(LAB) run --kernel $(FIRST) -- $(VENV)/python -m tests.bench

clean: ## remove everything that make made
	rm -rf .lab .venv .mypy_cache .pytest_cache .ruff_cache *.egg-info
