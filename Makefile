# What people type. `make` alone lists it.
#
# Nothing here installs into the machine's own Python; Debian packages are installed where they
# are missing and the user is root (.ci/packages), otherwise a sentence says which.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The distribution's Python: its compiled modules (systemd, netifaces) are the ones of the .deb.
SYSTEM_PYTHON ?= /usr/bin/python3
VENV := .venv
PYTHON := $(VENV)/bin/python
NAME := nodeagent
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' nodeagent/__init__.py)
SCHEMA := build/cloud-init-schema.json
AVAHI := build/avahi/usr/sbin/avahi-daemon
DEB := dist/$(NAME)_$(VERSION)_all.deb

VENV_PACKAGES := python3 python3-venv python3-systemd python3-netifaces
TEST_PACKAGES := shellcheck systemd git openssl openssh-client iproute2 nftables iptables \
	gpg gpg-agent mtools dosfstools e2fsprogs fuse2fs fdisk apt-utils bubblewrap slirp4netns chromium groff-base strace
# qemu-system-common has qemu-storage-daemon (Debian 12).
RELIABILITY_PACKAGES := qemu-system-common fuse3 e2fsprogs iproute2 git
CLUSTER_PACKAGES := bubblewrap iproute2
HOSTILE_PACKAGES := mmdebstrap bubblewrap mtools dosfstools e2fsprogs qemu-system-common fuse3
DEB_PACKAGES := build-essential debhelper dh-python pybuild-plugin-pyproject python3-all \
	python3-click python3-setuptools fakeroot git

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.ready ## make .venv with the nodeagent command and the development tools

# What comes from PyPI is pinned with hashes (make lock), and never built here: that would fetch more.
PIP_INSTALL := -m pip install -q --require-hashes --only-binary :all: -r .ci/requirements-
PIP_SELF := -m pip install -q --no-deps --no-index --no-build-isolation --editable .

$(VENV)/.ready: pyproject.toml .ci/requirements-dev.txt
	@.ci/packages $(VENV_PACKAGES)
	@[ -x $(PYTHON) ] && $(PYTHON) -m pip --version >/dev/null 2>&1 || rm -rf $(VENV)
	$(SYSTEM_PYTHON) -m venv --system-site-packages $(VENV)
	$(PYTHON) $(PIP_INSTALL)dev.txt
	$(PYTHON) $(PIP_SELF)
	@touch $@
	@$(VENV)/bin/$(NAME) --version

.PHONY: lock
lock: ## renew the list of what is taken from PyPI, with hashes (.ci/requirements-*.txt)
	$(SYSTEM_PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(PIP_INSTALL)lock.txt
	.ci/lock .venv-lock/bin/uv

.PHONY: test
test: venv $(SCHEMA) $(AVAHI) ## unit and net tiers, linters; 5 to 9 minutes
	@.ci/packages $(TEST_PACKAGES)
	$(PYTHON) -m pytest -q -n 2 --dist loadgroup tests

# What the examples for cloud-init are checked against: out of the distribution's own package,
# which is not installed, because it would take over the machine at its next boot.
$(SCHEMA):
	@mkdir -p build/cloud-init
	@cd build/cloud-init && apt-get download -q cloud-init >/dev/null 2>&1 || { \
		echo "apt-get could not fetch the package cloud-init; is there a network?" >&2; exit 1; }
	@dpkg-deb --fsys-tarfile build/cloud-init/cloud-init_*.deb \
		| tar -xO --wildcards '*/schema-cloud-config-v1.json' > $@.new
	@mv $@.new $@

# What Raspberry Pi OS runs on the mDNS port. Not installed: it would announce this machine.
AVAHI_PACKAGES := avahi-daemon libavahi-core7 libavahi-common3 libdaemon0 libdbus-1-3 libexpat1 libcap2
$(AVAHI):
	@mkdir -p build/avahi
	@cd build/avahi && apt-get download -q $(AVAHI_PACKAGES) >/dev/null 2>&1 || { \
		echo "apt-get could not fetch avahi-daemon; is there a network?" >&2; exit 1; }
	@cd build/avahi && for file in *.deb; do dpkg-deb -x "$$file" .; done
	@touch $@

.PHONY: test-oldest
test-oldest: .venv-oldest/.ready $(SCHEMA) ## the unit tier with the oldest supported libraries
	.venv-oldest/bin/python -m pytest -q -n 2 tests/unit --ignore tests/unit/test_linters.py

# Python 3.11, the oldest supported one, where it is there.
.venv-oldest/.ready: pyproject.toml .ci/requirements-oldest.txt
	@.ci/packages $(VENV_PACKAGES)
	@rm -rf .venv-oldest
	@$(SYSTEM_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "make test-oldest needs Python 3.11, the oldest supported one; $(SYSTEM_PYTHON) is" \
			"another. Run it on Debian 12, or name one: make test-oldest SYSTEM_PYTHON=..." >&2; \
		exit 1; }
	$(SYSTEM_PYTHON) -m venv --system-site-packages .venv-oldest
	.venv-oldest/bin/python $(PIP_INSTALL)oldest.txt
	.venv-oldest/bin/python $(PIP_SELF)
	@touch $@

.PHONY: deb
deb: $(DEB) ## dist/nodeagent_<version>_all.deb

DEB_SOURCES := $(shell git ls-files -- nodeagent debian systemd cloud-init \
	firmware pyproject.toml README.md CHANGELOG.md LICENSE 2>/dev/null)

# Built in a copy of what git knows, by the distribution's Python, which sees neither .venv nor what
# this user has installed. Reproducible: the time of the last commit stands for every time inside.
$(DEB): $(DEB_SOURCES) Makefile
	@.ci/packages $(DEB_PACKAGES)
	@rm -rf build/deb && mkdir -p build/deb/$(NAME) build/deb/home dist
	@for file in $(DEB_SOURCES); do [ -e "$$file" ] && echo "$$file"; done \
		| tar -cf - -T - | tar -xf - -C build/deb/$(NAME)
	@export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); \
	find build/deb/$(NAME) -exec touch -h -d "@$$SOURCE_DATE_EPOCH" {} +; \
	cd build/deb/$(NAME) && { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME="$$PWD/../home" LC_ALL=C.UTF-8 \
		PYTHONNOUSERSITE=1 SOURCE_DATE_EPOCH=$$SOURCE_DATE_EPOCH \
		dpkg-buildpackage -b -us -uc >../log 2>&1 || { \
		tail -n 40 ../log >&2; \
		echo "The package could not be built; build/deb/log has the whole story." >&2; exit 1; }; }
	@cp build/deb/$(NAME)_$(VERSION)_all.deb $@
	@echo "$@"

.PHONY: deb-check
deb-check: deb ## the package, built once more, is the same byte for byte; lintian finds nothing
	@.ci/packages lintian
	@mv $(DEB) build/first.deb && $(MAKE) deb && cmp build/first.deb $(DEB)
	lintian --fail-on error,warning $(DEB)

.PHONY: apt-repo
apt-repo: deb ## an apt repository with this release in dist/apt, signed (KEY=name of a gpg key)
	@[ -n "$(KEY)" ] || { echo "Name the key that signs: make apt-repo KEY=..." >&2; exit 2; }
	@.ci/packages apt-utils gpg gpg-agent
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .ci/apt-repo dist/apt "$(KEY)" $(DEB)

.PHONY: reliability
reliability: venv ## power cuts and kills at every point, seeded defects; writes docs/reliability.md
	@.ci/packages $(RELIABILITY_PACKAGES)
	$(PYTHON) -m tests.reliability --seed $(or $(SEED),1)

.PHONY: cluster
cluster: venv ## fleets with real control planes in network namespaces, as the lab has built them
	@.ci/packages $(CLUSTER_PACKAGES)
	$(PYTHON) -m pytest -q -n 4 --dist worksteal -m cluster tests/cluster

.PHONY: moves
moves: venv ## as many drawn moves or blackouts of such fleets; adds a row to docs/moves.md (RUNS=100 SEED=1 WHAT=moves)
	@.ci/packages $(CLUSTER_PACKAGES)
	$(PYTHON) -m tests.cluster.renumbering $(or $(RUNS),100) --seed $(or $(SEED),1) --what $(or $(WHAT),moves) --record

.PHONY: hostile
hostile: $(VENV)/.fuzz ## attacks on trust, discovery and the endpoint; writes docs/security.md
	@.ci/packages $(TEST_PACKAGES) $(HOSTILE_PACKAGES)
	$(PYTHON) -m tests.hostile --seed $(or $(SEED),1)

# atheris has wheels for some Pythons only, so it is no development tool that everybody needs.
$(VENV)/.fuzz: $(VENV)/.ready .ci/requirements-fuzz.txt
	$(PYTHON) $(PIP_INSTALL)fuzz.txt
	@touch $@

.PHONY: fuzz
fuzz: $(VENV)/.fuzz ## coverage-guided fuzzing of every parser (SECONDS=60 each, ONLY=NAME)
	$(PYTHON) -m tests.fuzz --seconds $(or $(SECONDS),60) $(if $(ONLY),--only $(ONLY))

.PHONY: guide
guide: venv ## renew man pages, reference pages and captures, which are made of the program
	$(PYTHON) -m tests.guide

.PHONY: systems
systems: venv ## seeded cards by the real cloud-init and systemd; docs/reference/systems.md (ONLY=)
	@.ci/packages $(HOSTILE_PACKAGES)
	$(PYTHON) -m tests.systems $(ONLY)
	$(PYTHON) -m tests.guide

.PHONY: bench
bench: venv ## time to join, memory, packets beside a released version; writes docs/cost.md (RUNS=5)
	@.ci/packages $(TEST_PACKAGES)
	$(PYTHON) -m tests.bench --runs $(or $(RUNS),5)

.PHONY: docs
docs: venv ## the documentation as a site, build/site/index.html
	$(VENV)/bin/mkdocs build --strict --quiet
	@echo build/site/index.html

.PHONY: simulate
simulate: venv ## 100,000 fleets elect their control plane; writes docs/election.md (SEED=1)
	$(PYTHON) -m tests.simulate --seed $(or $(SEED),1)

.PHONY: simulate-attacked
simulate-attacked: venv ## 100,000 fleets under an attacker with a card; writes docs/election-attacked.md (SEED=1)
	$(PYTHON) -m tests.simulate --attacked --seed $(or $(SEED),1)

# NODES=2 ARCH=amd64 MIRROR=built START=mixed ROLE_1=control-plane KEEP=1 LAB_MINUTES=40 on the command line, or
# in the environment, reach the lab as they are: tests/lab/place.py says what each may be. KUBERNETES=1.34 or 1.36.5
# takes another release than the default; its parts are built once, some ten minutes. CNI=kube-router takes another
# pod network. A worker on QEMU's
# Raspberry Pi 3: START=baked ROLE_1=control-plane MACHINE_2=raspi3b
LAB_SCENARIOS := lab-reboot lab-powercut lab-baseline lab-trouble lab-cuts lab-reset lab-fat \
	lab-blackouts lab-brought lab-carried lab-carried-plain lab-census lab-meeting lab-people lab-rerole lab-upgrade lab-cloudinit
.PHONY: lab $(LAB_SCENARIOS) lab-shell lab-down
lab: venv deb ## virtual Pis form a cluster (NODES=2 ARCH=amd64 MIRROR=built START=plain ROLE_1=auto KEEP=)
	$(PYTHON) -m tests.lab run

lab-reboot: ## the same, then all nodes are rebooted
lab-powercut: ## the same, with the power cut during installation and kubeadm init
lab-baseline: ## the time a plain script takes for the same
lab-trouble: ## wrong settings, no fleet file, full partitions, no mirror: each shown, each cured
lab-fat: ## what the durable writer leaves on a real FAT, against the plain way
lab-reset: ## a worker is reset, compared with what it was before, and joins again
lab-rerole: ## the lead moves to the other board, with a power cut; the worker forgets who it was
lab-census: ## where bytes of the fleet's keys are on the raw cards of a formed cluster
lab-census: export NODES ?= 3
lab-brought: ## a pod network by its manifest on the cards; what `explain --recipe` says
lab-carried: ## all boards are turned off, carried to a network with other addresses, and turned on
lab-carried-plain: ## the same with a cluster of plain kubeadm: what becomes of it
lab-blackouts: ## ten times the power of all boards fails at once; twice their clocks start in 1970
lab-meeting: ## two boards that cannot hear each other lead; then they can, and one cluster is left
lab-people: ## approve mode: a worker waits for a person, is revoked, and is let in again
lab-upgrade: ## newer packages in the middle of each phase; removed, installed again, purged
lab-cloudinit: ## settings through cloud-init, a clean status, without cloud-init, cloud-init clean
lab-cuts: ## power cuts at random instants of the whole road (SEED= plays the same ones again)
lab-cuts: export LAB_MINUTES ?= 100
lab-cuts: export NODES ?= 3
$(LAB_SCENARIOS): lab-%: venv deb
	SCENARIO=$* $(PYTHON) -m tests.lab run

lab-shell: venv ## a shell on node N=1 of a lab started with KEEP=1
	@$(PYTHON) -m tests.lab shell $(or $(N),1)

lab-down: venv ## end the lab's machines and leave nothing behind
	$(PYTHON) -m tests.lab down

.PHONY: clean
clean: ## remove what was built; keeps the lab's caches
	rm -rf build dist $(VENV) .venv-oldest .venv-lock *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find nodeagent tests -name __pycache__ -type d -prune -exec rm -rf {} +
