# Every target is one line that calls the tool; `make help` lists them.
PYTHON ?= python3
V := .venv/bin
PYTEST := $(V)/python -m pytest
# Of pytest at once: a third of a test's time is waiting, and each of them collects all tests by itself.
JOBS ?= $(shell echo $$(((3 * $$(nproc) + 1) / 2)))
# What has no target of its own.
HERE := not sanitizer and not browser and not docs and not long and not packages and not deb and not newcomer and not fleet

RELEASE := build/dist

# Images of containers set it: each process of each test would compile all of its modules again, pytest its tests too.
unexport PYTHONDONTWRITEBYTECODE

help:                   ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

demo: setup             ## a real DHCP client gets the document's address from the inventory, in private namespaces
	$(V)/python -m bench demo

demo-fleet: setup       ## three servers of one table and a real client behind a relay; the leader is killed, and the engine
	@sh tests/packages.sh tests/fleet/packages.txt
	BOOTSTORM_BUILD=none $(V)/pip install --quiet --no-build-isolation --editable '.[fleet]'
	$(V)/python -m bench demo-fleet

test: setup dev         ## sets everything up and runs all tests: what may share the machine at once, then the rest
	$(PYTEST) -n $(JOBS) --dist worksteal -m 'not netns and not faults and not alone and $(HERE)'
	$(PYTEST) -n $(JOBS) --dist loadfile -m 'netns and not faults and not alone and not machines and $(HERE)'
	BOOTSTORM_BUSY=3 $(PYTEST) -p tests.netns.under_load.faulttable -m '(faults or alone) and not machines and not long'
	@echo 'not run by make test: asan test-long test-board test-docs test-fleet test-import test-packages test-clients test-faults test-planted test-upgrade fuzz sim soak test-deb test-newcomer (make help)'

setup: .venv/deps packages build   ## virtual environment, Debian packages, extensions

packages:               # Debian packages that tests and demo profit from: installed as root with apt, else named
	@sh tests/packages.sh packages.txt

.venv/deps: pyproject.toml
	$(PYTHON) -m venv .venv
	$(V)/pip install --quiet --upgrade pip 'setuptools>=77' 'Cython>=3.3,<3.4'
	BOOTSTORM_BUILD=none $(V)/pip install --quiet --no-build-isolation --editable .
	touch $@

.venv/dev: .venv/deps   # what tests, benches and lint need on top: 430 MB that the service and the demo do without
	BOOTSTORM_BUILD=none $(V)/pip install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

build: .venv/deps       ## compile the extensions in place (BOOTSTORM_BUILD=release|debug|asan|trace)
	@rm -f bench/*.so  # of before the engines had a folder: bench/core.*.so would hide bench/core.py
	$(V)/python setup.py --quiet build_ext --inplace

dev: build .venv/dev    ## build, and what tests, benches and lint need

debug:                  ## the same as build, with asserts that abort and bounds that are checked
	BOOTSTORM_BUILD=debug $(V)/python setup.py --quiet build_ext --inplace --force

test-unit: dev          ## everything that needs no namespaces and no sanitizer
	$(PYTEST) -n $(JOBS) --dist worksteal -m 'not netns and not faults and $(HERE)'

test-long: dev          ## every case of which make test runs some: each request at which a registrar dies, each call that fails
	$(PYTEST) -n $(JOBS) --dist worksteal -m 'long and not netns and not faults'

test-netns: dev         ## real clients in network namespaces
	$(PYTEST) -n $(JOBS) --dist loadfile -m 'netns and not faults and not alone and not machines and $(HERE)'
	$(PYTEST) -m '(faults or alone) and not machines and not long'

test-faults: dev        ## every fault of bench/faults under load, then a table: fault, requests, lost, wrong, longest wait
	$(PYTEST) -p tests.netns.under_load.faulttable -m faults tests/netns

test-docs: dev          ## every command of README and docs/ as it stands there, on private networks
	$(PYTEST) tests/test_docs.py tests/test_docs_fences.py tests/netns/test_docs_run.py

test-newcomer: dev      ## README's words alone: a clone, its setup (minutes), the first site, and a machine of qemu that boots
	$(PYTEST) -q -s -m newcomer tests/netns/test_newcomer.py

test-upgrade: dev       ## from the build of another commit to this one and back by SIGUSR2, under load: FROM=COMMIT
	BOOTSTORM_FROM=$(FROM) $(PYTEST) -m faults tests/netns/under_load/test_upgrades.py -k from_another_commit

test-inventory: dev     ## the original clusto-httpd's 251 recorded answers against ours, on SQLite and PostgreSQL
	$(PYTEST) tests/control/clusto/server/test_recordings.py -q -s -rs

test-import: dev        ## 50 machines of dhcpd, dnsmasq and Kea asked of them and of us after the import, table of fields; 50,000 hosts
	@sh tests/packages.sh bench/peers/packages.txt
	$(PYTEST) -q -s -rs tests/netns/imported
	$(PYTEST) -q -s -m long tests/control/importers

test-clients: dev       ## all real clients and many emulated machines, then a table client x case x result x time
	$(PYTEST) -p tests.netns.clients.table -m client tests/netns

test-board: dev         ## where is my rack stuck: 10,000 emulated machines of which 37 hang, 12 of qemu of which 2; the board in Chromium
	@sh tests/packages.sh tests/control/board/packages.txt
	$(V)/pip install --quiet 'playwright>=1.50'
	$(PYTEST) -m browser tests/control/board
	$(PYTEST) -m long tests/netns/board

asan: dev               ## the packet path's tests under AddressSanitizer and UBSan
	$(PYTEST) -m sanitizer

FUZZ_RUNS ?= 1000000

fuzz: dev               ## libFuzzer over the packet path under ASan and UBSan, FUZZ_RUNS=1000000 inputs; needs clang
	@command -v clang >/dev/null || sh tests/packages.sh tests/fuzz/packages.txt
	$(V)/python -m tests.fuzz --runs $(FUZZ_RUNS)

bench: dev              ## all benches in about 10 minutes: ours, the machine's limit and other DHCP servers in one table
	@sh tests/packages.sh bench/peers/packages.txt
	$(V)/python -m bench all

bench-peers: dev        ## Kea, ISC dhcpd, dnsmasq, coredhcp and FreeRADIUS beside ours and the machine's limit
	@sh tests/packages.sh bench/peers/packages.txt
	$(V)/python -m bench peers --json peers.json --picture peers.svg

bench-growth: dev       ## cost of a reply as hosts, workers, relays and replies grow, with why a curve bends
	$(V)/python -m bench growth --json growth.json --picture growth.svg

bench-perfdhcp: dev     ## replies a second on one core, and Kea's in the same run (perfdhcp, 10,000 hosts)
	$(V)/python -m bench.perfdhcp

bench-load: dev         ## the highest rate that our server sustains on one core, open loop, every reply checked
	$(V)/python -m bench load --json load.json --picture load.svg

bench-boot: dev         ## a site of racks with 10,000 machines boots twice, 37 hang; it stays for ctl hosts until Ctrl-C
	$(V)/python -m bench boot --stay

bench-storm: dev        ## 10,000 machines switched on at once, until the last ACK
	$(V)/python -m bench storm --json storm.json --picture storm.svg

bench-overload: dev     ## three times what a slowed-down worker can answer, a flooding relay, strangers
	$(V)/python -m bench overload --json overload.json --picture overload.svg

bench-limit: dev        ## the machine's own limit: echo and bare echo, and our server beside them
	$(V)/python -m bench limit --json limit.json --picture limit.svg

bench-core: dev         ## the packet path without I/O: ns and instructions a packet, 1,000 to 1,000,000 hosts
	$(V)/python -m bench core --json core.json --picture core.svg

bench-replay: dev       ## real clients' captures by 1,000 hosts, ten times as fast
	$(V)/python -m bench replay tests/data/pcaps/udhcpc.pcap tests/data/pcaps/dhclient.pcap tests/data/pcaps/dhcpcd.pcap tests/data/pcaps/ipxe-bios.pcap --hosts 1000 --speed 10 --spread 1 --json replay.json --picture replay.svg

SOAK_S ?= 3600
SEED ?= 0
SOAK_RATE ?= 20000

test-planted: dev       ## plants faults in a copy of the tree, one after the other: each has to be found (tests/planted/faults.py)
	$(V)/python -m tests.planted

SIM_RUNS ?= 10000

sim: .venv/dev          ## the fleet's decisions under SIM_RUNS=10000 random schedules, then planted faults: each has to be found
	$(V)/python -m tests.fleet --runs $(SIM_RUNS)

test-fleet: dev         ## a fleet with the real nats-server on the loopback: leaders, engine and blobs fail one after the other
	@sh tests/packages.sh tests/fleet/packages.txt
	$(PYTEST) -q -s -rs -m fleet tests/fleet

bench-fleet: dev        ## a change's way into all workers of 10 servers, a leader's death, 100 fleet processes: fleet.json
	@sh tests/packages.sh tests/fleet/packages.txt
	$(V)/python -m tests.fleet.rig.figures

soak: dev               ## every fault at random by a seed under load, every answer checked: SOAK_S=3600 SEED=1 SOAK_RATE=20000
	$(V)/python -m bench soak --seconds $(SOAK_S) --seed $(SEED) --rate $(SOAK_RATE) --json soak.json --picture docs/performance/soak.svg

bench-xdp: dev          ## CPU of a reply by sockets and by AF_XDP in one run, relayed and direct, the echo beside them
	$(V)/python -m bench xdp --json xdp.json --picture xdp.svg

bench-refresh: dev      ## a change's way into all workers by stage, at 10,000 to 1,000,000 hosts, and under load
	$(V)/python -m bench.refresh

man: dev                ## man pages, completions and the schema of services.conf into build/share, laid out as /usr/share
	$(V)/python deploy/share/make_share.py build/share

.venv/release: .venv/dev
	BOOTSTORM_BUILD=none $(V)/pip install --quiet --no-build-isolation --editable '.[release]'
	touch $@

sdist: .venv/release
	rm -rf $(RELEASE)
	BOOTSTORM_BUILD=none $(V)/python -m build --sdist --outdir $(RELEASE)

wheel: sdist            ## the sdist, and a wheel that is built from it, into build/dist; both are checked
	$(V)/pip wheel --quiet --no-deps --wheel-dir $(RELEASE) $(RELEASE)/*.tar.gz
	$(V)/twine check --strict $(RELEASE)/*
	$(V)/check-wheel-contents $(RELEASE)/*.whl

test-packages: dev wheel ## the wheel in an environment of its own: it serves, and says when another project is in its place
	$(PYTEST) -m packages tests/deploy

deb: sdist              ## the Debian package of this machine's Debian into build/deb, by Debian's Python; lintian reads it
	@sh tests/packages.sh deploy/debian/packages.txt
	sh deploy/debian/build.sh $(RELEASE)/*.tar.gz build/deb

test-deb: dev deb       ## the package in a clean Debian: installed, started, upgraded under load, removed, purged
	@sh tests/packages.sh tests/deploy/debian/packages.txt
	$(PYTEST) -q -s -m deb tests/deploy/debian

lint: dev               ## ruff and mypy
	$(V)/ruff check .
	$(V)/ruff format --check .
	$(V)/mypy

tidy: dev               ## the house rules (tests/test_tidy.py)
	$(PYTEST) tests/test_tidy.py

house: .venv/dev        ## draws the rooms and who imports whom into docs/house.svg
	$(V)/python -m tests.house

clean:                  ## everything that was built
	rm -rf build .venv ext/*.so bench/engine/*.so *.egg-info .pytest_cache .mypy_cache .ruff_cache

.PHONY: help demo demo-fleet test setup packages build dev debug test-unit test-netns test-long test-docs test-inventory test-import test-clients test-faults test-upgrade test-planted test-board test-packages wheel asan fuzz sim bench bench-peers bench-growth bench-perfdhcp bench-load bench-storm bench-overload bench-limit bench-core bench-boot bench-replay bench-xdp bench-refresh bench-fleet soak lint tidy house man clean test-deb deb test-newcomer
