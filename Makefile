# Everything a user or a maintainer runs. Needs make and a Python >= 3.11; the rest is installed into .venv from the
# lock (deploy/lock/). "make" alone lists the targets.

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# A recipe's Python must not be led astray by the caller's.
unexport PYTHONPATH PYTHONHOME

# The versions that the lock was tried on come first. Each candidate is run, because a pyenv shim exists for versions
# that it can't start, and Debian's python3 lacks ensurepip until python3-venv is installed.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python3.14 python; do \
	if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then command -v $$python; break; fi; done)

# Versions and hashes come from the lock, which is complete: nothing is left to resolve (and old pips stumble over
# extras when they resolve with hashes). No build isolation, because setuptools is in the lock as well.
# An environment from before our distribution was renamed has us as "trishula": that goes first, or both would be there.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
INSTALL_SELF := { $(PIP) uninstall --yes trishula; $(PIP) install --no-deps --no-build-isolation --editable .; }

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "TRISHULA needs Python 3.11 or newer with its venv module, and found none: install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name it with 'make PYTHON=/path/to/python3'." >&2; exit 1; }
	@echo "Creating $(VENV) with $(PYTHON)"
	@"$(PYTHON)" -m venv "$(VENV)"

$(VENV)/.run-installed: deploy/lock/router.txt setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing what a node and its agents need from deploy/lock/router.txt (about a minute)"
	@$(PIP) install --no-deps --require-hashes --requirement deploy/lock/router.txt
	@$(INSTALL_SELF)
	@touch $@

$(VENV)/.dev-installed: deploy/lock/dev.txt setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing the tools from deploy/lock/dev.txt (about a minute)"
	@$(PIP) install --no-deps --require-hashes --requirement deploy/lock/dev.txt
	@$(INSTALL_SELF)
	@touch $@ $(VENV)/.run-installed

# Programs that Crossbar's requirements can't live with (it asks for an idna of 2017): what an agents' machine has, and the
# libraries of deploy/examples; the same with the SDK of MCP, with that
# of A2A, and with frameworks of agents. Not compiled beforehand: most of what they bring is never imported.
BESIDE := $(VENV)-examples/.installed $(VENV)-mcp/.installed $(VENV)-a2a/.installed $(VENV)-frameworks/.installed
# This one has 1 GB: too much for each run of the tests, so only crewai-test asks for it.
CREWAI := $(VENV)-crewai/.installed
$(BESIDE) $(CREWAI): $(VENV)-%/.installed: deploy/lock/%.txt | $(BIN)/python
	@echo "Installing what is tested beside Crossbar from deploy/lock/$*.txt into $(VENV)-$*"
	@"$(PYTHON)" -m venv "$(VENV)-$*"
	@$(VENV)-$*/bin/python -m pip --disable-pip-version-check -qq install --no-compile --no-deps --require-hashes --requirement deploy/lock/$*.txt
	@touch $@

.PHONY: venv
venv: $(VENV)/.dev-installed $(BESIDE) ## Make the environment: Python packages from the lock, this project editable

.PHONY: demo
demo: $(VENV)/.run-installed ## Start a node and three agents, let them work together, show it, stop (PORT=n)
	@$(BIN)/python -m deploy.demo --port "$(or $(PORT),0)"

.PHONY: demo-cluster
demo-cluster: $(VENV)/.run-installed ## Start two linked nodes and three agents, kill one node while they work, show it
	@$(BIN)/python -m deploy.demo_cluster

.PHONY: up
up: $(VENV)/.run-installed ## The same without an end: stays until Ctrl-C and says what to try (PORT=n)
	@$(BIN)/python -m deploy.demo --stay --port "$(or $(PORT),0)"

.PHONY: bench
bench: $(VENV)/.run-installed ## Measure a throw-away durable node on this machine (DURATION=60s)
	@$(BIN)/trishula bench --duration "$(or $(DURATION),60s)" --connections 3 --rate 100

.PHONY: test
test: $(VENV)/.dev-installed $(BESIDE) ## Run the whole test suite (ARGS="-k name" to choose)
	@$(BIN)/python -m $(if $(ARGS),pytest $(ARGS),tests.lanes)

.PHONY: crewai-test
crewai-test: $(VENV)/.dev-installed $(CREWAI) ## Run the test of the example of CrewAI, which make test skips: installs 1 GB
	@$(BIN)/python -m pytest tests/integration/test_frameworks.py -k crewai

.PHONY: check
check: $(VENV)/.dev-installed ## Types, linter, format, what the wheel holds, docs
	$(BIN)/mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python deploy/check_dist.py
	$(BIN)/python -m docutils --report=warning --halt=warning README.rst /dev/null
	$(BIN)/python -m docutils --report=warning --halt=warning CHANGES.rst /dev/null
	$(BIN)/python -m docutils --report=warning --halt=warning deploy/runbooks.rst /dev/null
	$(BIN)/python -m docutils --report=warning --halt=warning deploy/README.rst /dev/null
	$(BIN)/python -m docutils --report=warning --halt=warning deploy/threats.rst /dev/null
	@$(MAKE) --no-print-directory docs

.PHONY: docs
docs: $(VENV)/.dev-installed ## Build the documentation into build/docs; a warning is an error
	@$(BIN)/python -m sphinx -q -W --keep-going -n -d build/doctrees deploy/docs build/docs
	@echo "The documentation is in build/docs/index.html"

.PHONY: format
format: $(VENV)/.dev-installed ## Bring the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# pip-tools lives in an environment of its own, so that the lock doesn't hold what makes it. Python 3.11, because the
# lock must hold for the oldest version that we support. Takes some minutes: every hash of every wheel is fetched.
COMPILE := build/lock-venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade
.PHONY: lock
lock: ## Make deploy/lock/ again with the newest versions that setup.cfg allows
	@test -n "$(PYTHON)" || { echo "make lock needs Python 3.11." >&2; exit 1; }
	"$(PYTHON)" -m venv build/lock-venv
	build/lock-venv/bin/pip --quiet install 'pip-tools>=7.5'
	$(COMPILE) --extra router --extra files --extra report --extra otel --extra redis --extra dev --output-file deploy/lock/dev.txt setup.cfg
	$(COMPILE) --extra router --extra redis --constraint deploy/lock/dev.txt --output-file deploy/lock/router.txt setup.cfg
	$(COMPILE) --constraint deploy/lock/dev.txt --output-file deploy/lock/agent.txt setup.cfg
	$(COMPILE) --extra examples --output-file deploy/lock/examples.txt setup.cfg
	$(COMPILE) --extra mcp --output-file deploy/lock/mcp.txt setup.cfg
	$(COMPILE) --extra a2a --output-file deploy/lock/a2a.txt setup.cfg
	$(COMPILE) --extra frameworks --output-file deploy/lock/frameworks.txt setup.cfg
	$(COMPILE) --extra crewai --output-file deploy/lock/crewai.txt setup.cfg
	echo 'numpy>=2.1' > build/numpy.in
	$(COMPILE) --output-file build/numpy.txt build/numpy.in
	for lock in router dev; do { \
	echo; echo '# From Python 3.13 on NumPy 1 has no wheels, and needs to be none.'; \
	sed 's/^\(numpy==[^ ]*\) /\1 ; python_version >= "3.13" /' build/numpy.txt; } >> deploy/lock/$$lock.txt; done

.PHONY: clean
clean: ## Remove what was built and cached, and the environment
	rm -rf $(VENV) $(VENV)-examples $(VENV)-mcp $(VENV)-a2a $(VENV)-frameworks $(VENV)-crewai build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf components/*.egg-info router/*.egg-info *.egg-info
