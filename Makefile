# Warren. `make demo` and `make test` do all their own set-up; the README says what the others need.
SHELL := /bin/bash
.DEFAULT_GOAL := help

EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
VENV := build/venv
PY := $(VENV)/bin/python
PYTHON ?= python3
# Compiled modules are stored: the tests start hundreds of processes, and each would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=

# Local packages are always installed in one command, so that no index is ever asked for warren-*.
# A package with an extra stands there twice: pip looks for the one without the extra on its own.
MEMBERS := -e libs/contracts -e libs/process -e libs/intent -e libs/lab -e libs/trust -e libs/bus -e libs/service -e 'libs/service[otlp]' -e testkit -e libs/ikev2 -e 'libs/ikev2[dataplane]' -e libs/store \
	-e services/policy -e services/registry -e services/callout -e services/metrics -e services/api \
	-e services/agent -e services/guard -e cli -e 'cli[ike,top]' -e vpn -e stack -e 'stack[local]'
# Test processes side by side, two for each core, as tests wait for other processes half of their time.
JOBS ?= $(shell echo $$((2 * $$(nproc))))
# More options for every pytest of check and test: make test ARGS='-k backoff'
ARGS ?=
# Unit tests in parts of about the same size, the longest first: a process of its own for each part collects only that, where
# each worker of xdist would collect everything.
PARTS := services libs cli stack engine agent
PART_engine := libs/ikev2
PART_agent := services/agent services/guard
PART_libs := $(filter-out libs/ikev2,$(wildcard libs/*))
PART_services := $(filter-out $(PART_agent),$(wildcard services/*)) tests/contract
PART_cli := cli
PART_stack := vpn stack
UNIT := libs services cli vpn stack tests/contract
USUAL := not sid and not compose and not kernel and not promises and not browser and not fuzzing
SRC := libs/contracts/src libs/process/src libs/intent/src libs/lab/src libs/trust/src libs/bus/src libs/service/src testkit/src libs/ikev2/src libs/store/src services/policy/src services/registry/src \
	services/callout/src \
	services/metrics/src services/api/src services/agent/src services/guard/src cli/src vpn/src stack/src tools/src

TESTS := $(wildcard libs/*/tests services/*/tests) cli/tests $(wildcard vpn/tests) stack/tests tests/attacks tests/contract tests/integration tests/kernel tests/compose tests/browser

.PHONY: help setup demo venv node web lint check test test-thorough coverage audit sbom wheels test-interop test-api test-browser screenshots test-compose test-all test-kernel test-promises fuzz bench docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

DRIVER ?= userspace
# The demo leaves nothing but Debian packages and build/: its processes store compiled modules there, not next to the sources.
demo: export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache
demo: ## the whole product on real parts, in a sandbox: make demo, make demo KEEP=1, make demo JSON=1, make demo DRIVER=strongswan
	@mkdir -p build
	@deploy/debian/setup.sh $(if $(filter strongswan,$(DRIVER)),,--no-strongswan) --list build/installed >&2
	@$(MAKE) --no-print-directory --silent venv
	@$(if $(KEEP),$(MAKE) --no-print-directory --silent web >&2 || echo "demo: it goes on without the web page" >&2,true)
	@WARREN_DEMO_INSTALLED="$$(cat build/installed)" $(VENV)/bin/warren demo --driver $(DRIVER) $(if $(KEEP),--keep) $(if $(JSON),--json)

setup: ## install the Debian packages that the tests need (root), or print the one command
	@deploy/debian/setup.sh --tests

venv: $(VENV)/.ready

$(VENV)/.ready: constraints.txt requirements-dev.txt libs/*/pyproject.toml services/*/pyproject.toml testkit/pyproject.toml cli/pyproject.toml vpn/pyproject.toml stack/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling editables setuptools wheel
	$(PY) -m pip install --quiet --disable-pip-version-check --no-build-isolation -c constraints.txt -r requirements-dev.txt $(MEMBERS)
	touch $@

# The official tools that read the generated documents. Their tests are skipped, with the reason, where npm or pip reaches no registry.
node: venv
	@PYTHONPATH=tools/src $(PY) -m warren_tools.node_packages tools/node build/node & $(PY) tools/own_venv.py build/openapi-client tools/openapi_client/requirements.txt; wait

# Types, checks, unit tests, bundle and size of the page. Exit code 2: npm reaches no registry.
web: venv ## build the web page, which the API server of this checkout serves then; fails above 160 kB of first load
	@PYTHONPATH=tools/src $(PY) -m warren_tools.page web build/web

# The page for the test that drives it, which is skipped, with the reason, where npm reaches no registry. A page that does not build fails.
.PHONY: page
page: venv
	@PYTHONPATH=tools/src $(PY) -m warren_tools.page web build/web || [ $$? -eq 2 ]
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt playwright

# Each check and each part of the tests is a target of its own, so that they run side by side. Its output goes to a log: one line
# is shown when it passes, everything when it fails. $(1): the log's name, $(2): the command.
LOGS := build/logs
define logged
@mkdir -p $(LOGS); begin=$$SECONDS; ( $(2) ) >$(LOGS)/$(1).log 2>&1; code=$$?; last=$$(tail -n 1 $(LOGS)/$(1).log); \
	if $(PASSED); then echo "$(1): $${last:-passed} [$$((SECONDS - begin)) s]"; \
	else cat $(LOGS)/$(1).log; echo "$(1): FAILED [$$((SECONDS - begin)) s]"; exit 1; fi
endef
# pytest ends with 5 where ARGS selects no test of a part.
PASSED = [ $$code -eq 0 ] || [ $$code -eq 5 -a -n "$(if $(ARGS),1)" ]

LINTS := lint-types lint-style lint-imports lint-words lint-spelling
.PHONY: $(LINTS)

lint: venv ## ruff, mypy --strict, import-linter, vocabulary and spelling
	@$(MAKE) --no-print-directory --jobs=2 --keep-going $(LINTS)

lint-style:
	$(call logged,lint-style,$(VENV)/bin/ruff format --check . && $(VENV)/bin/ruff check .)

# One run for code, benchmarks and tests: what they import in common is analysed once.
lint-types:
	$(call logged,lint-types,MYPYPATH=$(subst $(SPACE),:,$(SRC)):bench $(VENV)/bin/mypy --cache-dir build/mypy \
		--explicit-package-bases --namespace-packages $(SRC) $(wildcard bench/*.py) $(TESTS))

lint-imports:
	$(call logged,lint-imports,$(VENV)/bin/lint-imports)

lint-words:
	$(call logged,lint-words,$(PY) tools/vocabulary.py && $(PY) tools/module_limits.py)

lint-spelling:
	$(call logged,lint-spelling,$(VENV)/bin/codespell $$(git ls-files '*.py' '*.md' '*.yaml' '*.sql' '*.sh'))

# In a fresh clone every test process would compile all modules for itself.
build/.compiled: $(VENV)/.ready
	@$(PY) -m compileall -q -j 0 $(SRC)
	@touch $@

CHECKS := $(PARTS:%=check-%)
.PHONY: $(CHECKS)
$(CHECKS): check-%:
	$(call logged,check-$*,WARREN_EXAMPLES=check $(PY) -m pytest -q -o cache_dir=build/pytest-$* -m '$(USUAL) and not slow' $(PART_$*) $(ARGS))

check: venv build/.compiled ## lint and unit tests without the slow ones, without root: in a minute and a half
	@$(MAKE) --no-print-directory --jobs=$(JOBS) --keep-going lint-types $(CHECKS) $(LINTS)

# Of the tests on real parts those of one file stay in one process. They take long, so they begin first, and the longest files
# before the others. Next to them run the checks and the unit tests, one part after the other. (pytest orders files only where no
# folder is named.)
LONG := test_demo agent/test_agent_process promises/test_bypass vpn/test_vpn_client agent/test_restore_from_backup test_up
LONGEST := $(LONG:%=tests/integration/%.py)
REAL := $(LONGEST) $(filter-out $(LONGEST),$(wildcard tests/integration/*/test_*.py tests/integration/test_*.py tests/attacks/test_*.py))
TESTS_OF_PARTS := $(PARTS:%=test-%)
.PHONY: test-real $(TESTS_OF_PARTS)

test-real: page
	@mkdir -p $(LOGS); set -o pipefail; \
		$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(REAL) $(ARGS) 2>&1 | tee $(LOGS)/test-real.log; \
		code=$$?; $(PASSED)

test-services: node
$(TESTS_OF_PARTS): test-%:
	$(call logged,test-$*,$(PY) -m pytest -q -o cache_dir=build/pytest-$* $(PART_$*) $(ARGS))

test: setup venv build/.compiled ## everything that CI runs: make test, make test JOBS=4
	@rm -rf $(LOGS)
	@$(MAKE) --no-print-directory --jobs=2 --keep-going test-real lint-types $(TESTS_OF_PARTS) $(LINTS); failed=$$?; \
		for part in $(LINTS) test-real $(TESTS_OF_PARTS); do last=$$(tail -n 1 $(LOGS)/$$part.log); echo "$$part: $${last:-passed}"; done; \
		grep -hE '^(FAILED|ERROR) ' $(LOGS)/*.log; exit $$failed

test-thorough: venv ## property tests with 20 times as many examples, new ones in each run
	WARREN_EXAMPLES=thorough $(PY) -m pytest -q -n $(JOBS) --dist load --timeout 3600 $$(git grep -l '^@given' -- $(UNIT))

coverage: setup venv ## line coverage of each package by its unit tests, compared with tools/coverage-floors.toml
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile $(UNIT) --timeout 600 --cov --cov-config=pyproject.toml --cov-report=json:build/coverage.json
	$(PY) tools/coverage_floor.py build/coverage.json

audit: venv ## known vulnerabilities of the pinned packages (asks the advisory database)
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --no-deps --disable-pip -r constraints.txt

sbom: wheels ## bill of materials (CycloneDX) of what the wheels install, without the tools of the tests: build/sbom.json
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom
	build/sbom/bin/cyclonedx-py environment --output-reproducible --of JSON -o build/sbom.json build/wheels-venv

wheels: venv ## build every distribution and install all of them into an empty environment
	@$(MAKE) --no-print-directory --silent web || echo "the wheel of the API server is built without the web page" >&2
	@tools/wheels.sh $(PY)

test-interop: setup venv ## the whole matrix with strongSwan's charon, alone; ends with the number of cells
	$(PY) -m pytest -q -r fE tests/integration/ike/test_ike_matrix.py

test-promises: setup venv ## every part killed at every step of a change, under pings; a line for each cell; the CA replaced (root)
	$(PY) -m pytest -q -r fE -m promises tests/integration

test-api: venv ## requests of every shape to every operation of the API of a running `warren up`: none is answered with 5xx
	@$(PY) tools/own_venv.py build/schemathesis tools/schemathesis/requirements.txt
	$(PY) -m pytest -q -r fE -m fuzzing tests/integration/test_api_fuzzing.py

# What drives a browser: the page, Chromium, Playwright (whose own browsers are not needed).
.PHONY: browser
browser: venv web
	@deploy/debian/setup.sh --browser
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt playwright pillow

test-browser: browser ## the web page in Chromium on a running demo: an operator's path, axe, hostile names (root)
	$(PY) -m pytest -q -r fE -m browser tests/browser

screenshots: browser ## the pictures of every view in docs/images, from a running demo (root)
	$(PY) -m warren_testkit.browser.screenshots docs/images

test-compose: ## deploy/compose on a Docker engine of its own, with gateways of the lab around it (root)
	@deploy/debian/setup.sh --tests --compose
	@$(MAKE) --no-print-directory --silent venv node
	@tests/compose/run.sh -q

test-all: test ## make test, and what needs other strongSwan versions: trixie's and sid's, which go into build/ (root)
	@for suite in trixie sid; do deploy/debian/other-strongswan.sh $$suite build/$$suite || true; done
	$(PY) -m pytest -m sid tests/integration

test-kernel: venv ## the agent's driver on a real kernel's ESP, under AppArmor, in a virtual machine (root)
	@deploy/debian/setup.sh --vm
	@deploy/debian/vm-parts.sh build/vm
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt virtme-ng
	@$(PY) tests/kernel/vm.py build/vm --durations=5

FUZZ_SECONDS ?= 60
fuzz: venv ## coverage-guided fuzzing of IKEv2 and the data plane, FUZZ_SECONDS=60 for each of its seven targets
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt atheris
	mkdir -p build/fuzz && cd build/fuzz && for target in message chain unauthenticated peer; do \
		../venv/bin/python ../../libs/ikev2/fuzz/fuzz_ike.py $$target -max_total_time=$(FUZZ_SECONDS) -max_len=1500 || exit 1; \
	done; for target in frames trains inner; do \
		../venv/bin/python ../../libs/ikev2/fuzz/fuzz_dataplane.py $$target -max_total_time=$(FUZZ_SECONDS) -max_len=1500 || exit 1; \
	done

# Without wireguard-go its rows are left out: the line says why.
bench: setup venv page ## side-by-side measurements: make bench, make bench ONLY=fanout
	@deploy/debian/wireguard-go.sh build/wireguard-go || true
	$(PY) bench --only '$(ONLY)'

docs: venv ## write the generated documents and the frozen JSON Schemas
	PYTHONPATH=tools/src $(PY) -m warren_tools.freeze tests/contract/schemas
	PYTHONPATH=tools/src $(PY) -m warren_tools.asyncapi docs/asyncapi.json
	PYTHONPATH=tools/src $(PY) -m warren_tools.openapi docs/openapi.json
	PYTHONPATH=tools/src $(PY) -m warren_tools.dashboards deploy

clean: ## remove what the targets made
	rm -rf build
