# SPDX-License-Identifier: Apache-2.0
#
# Every target works on a fresh Debian machine: scripts/setup installs what is missing.

PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo demo-debian test lint bench fuzz conformance load deb soak build clean

help:    ## this list
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: build  ## boot a Debian kernel over the API, step by step (KERNEL=, INITRAMFS= replace the guest)
	@$(PYTHON) -m scripts.demo

demo-debian: build  ## boot a Debian from a disk, ping it, reach it by SSH, power it off
	@$(PYTHON) -m scripts.demo_debian

test:    ## run every tier of tests; TIERS="unit kvm" picks some
	@scripts/setup --fuzz
	@$(PYTHON) -m tests.run $(TIERS)

lint: build  ## check the style, the types and the C compiler's warnings
	@$(PYTHON) -m tests.run lint

bench: build  ## measure against QEMU; prints a table and JSON
	@$(PYTHON) -m tests.integration.performance

fuzz:    ## fuzz the parsers that face the guest for TIME seconds each
	@scripts/setup --fuzz
	@native/kvm_shim/fuzz/run $(TIME)

conformance: build  ## 20,000 requests made from the API's own document, all checks on (7 to 40 minutes)
	@$(PYTHON) -m tests.integration.conformance --requests 20000

load: build  ## 64 clients for a minute, with VMs that come and go
	@$(PYTHON) -m tests.integration.load --seconds 60

deb: build  ## the Debian package and its wheels, in dist/
	@$(PYTHON) -m scripts.package

soak: build  ## 20 units with VMs that come, pause, are killed and go for MINUTES (30), in the testbed
	@$(PYTHON) -m tests.integration.soak --place testbed --minutes $(or $(MINUTES),30)

build:   ## install what is missing, and build
	@scripts/setup

clean:   ## remove what was built here; the cache of downloads stays (python3 -m tests.testbed clean)
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find native services shared tests scripts -name __pycache__ -prune -exec rm -rf {} +
	find native \( -name '*.so' -o -name '*.o' -o -name '_native.c' \) -delete
