# Everything a fresh machine needs: Python 3.11 to 3.14 and make. `make demo` is the way in.
#
# VENV is where it all goes, but for Airflow, for what we are measured against and for what builds
# the documentation, which get places of their own. The first of PYTHON that fits makes it: 3.11 to
# 3.14, with venv and pip.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
VENV ?= .venv
AIRFLOW_VENV ?= .venv-airflow
BENCH_VENV ?= .venv-bench
DOCS_VENV ?= .venv-docs
BIN := $(VENV)/bin
# Two workers, a file of tests each at a time: servers are started once for each worker.
PYTEST_ARGS ?= -n 2 --dist loadfile
# How much `make bench`, `bench-full` and `bench-load` measure, and how often.
IMAGES ?= 600
ITEMS ?= 20000
DRIFT_IMAGES ?= 100000
ROWS ?= 10000000
WALLPAPERS ?= 100000
# How long `make soak` breaks things.
MINUTES ?= 2
ROUNDS ?= 5
export COLLECTOR_HOME ?= $(CURDIR)/.collector

.PHONY: help setup demo test test-all test-airflow test-celery compose-smoke lint advisories clean \
	requirements bench bench-full bench-tune bench-load reliability soak reference docs docs-serve dist

help:
	@echo "make demo           set up, then mirror a simulated search end to end"
	@echo "make test           set up, then run the tests: minutes"
	@echo "make test-all       the others: all faults, PostgreSQL 15, a million rows"
	@echo "make test-airflow   set up $(AIRFLOW_VENV), then run the stack of docker-compose.yml"
	@echo "make test-celery    the same with two Celery workers, one of which is killed"
	@echo "make compose-smoke  the stack in containers, where there is an engine"
	@echo "make bench          set up $(BENCH_VENV), then compare our transfer with others"
	@echo "make bench-full     longer: many workers, 100,000 images, a backlog of ten million"
	@echo "make bench-tune     what to set for your own store (ENV_FILE=my.env)"
	@echo "make bench-load     the same for our load of metadata"
	@echo "make reliability    try every fault of docs/reliability.md, and write that page anew"
	@echo "make docs           build the documentation as a site in .site/html"
	@echo "make docs-serve     the same, shown on http://127.0.0.1:8000"
	@echo "make reference      write docs/reference from code and schema"
	@echo "make soak           thousands of images under faults and kills (MINUTES=2, SEED=)"
	@echo "make lint           ruff, mypy, import contracts, hadolint, schemas of YAML, zizmor"
	@echo "make advisories     whether any are known of the packages that are shipped"
	@echo "make setup          only set up, in $(VENV)"
	@echo "make dist           build the source distribution and the wheel in dist/"
	@echo "make requirements   compile requirements/ anew from pyproject.toml"
	@echo "make clean          remove .venv and the other environments, .site and .collector"

setup: $(VENV)/.local

demo: $(VENV)/.local
	@$(BIN)/python -m collector demo

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow"

# The two together run every test once, but for those of Airflow.
test-all: $(VENV)/.dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m slow

test-airflow: $(AIRFLOW_VENV)/.ready
	@$(AIRFLOW_VENV)/bin/python -m pytest $(PYTEST_ARGS) tests/airflow --ignore tests/airflow/celery

test-celery: $(AIRFLOW_VENV)/.ready
	@$(AIRFLOW_VENV)/bin/python -m pytest tests/airflow/celery

reliability: $(VENV)/.dev $(AIRFLOW_VENV)/.ready
	@$(BIN)/python tests/reliability.py

# Whoever finds a defect has its seed on the last line: make soak SEED=that.
soak: $(VENV)/.dev
	@$(BIN)/python tests/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

compose-smoke:
	@$(python) tests/compose_smoke.py

# Lines of JSON, a pass each; the last one is the summary, which replaces the stored one.
bench: $(BENCH_VENV)/.ready
	@$(BENCH_VENV)/bin/python benchmarks/transfer/bench.py --images $(IMAGES) --rounds $(ROUNDS) \
		> "$(BENCH_VENV)/transfer.jsonl"
	@tail -n 1 "$(BENCH_VENV)/transfer.jsonl" | $(BENCH_VENV)/bin/python -m json.tool --indent 2 \
		> benchmarks/results/transfer.json
	@cat benchmarks/results/transfer.json

bench-full: $(BENCH_VENV)/.ready
	@$(BENCH_VENV)/bin/python benchmarks/transfer/full.py --items $(ITEMS) \
		--images $(DRIFT_IMAGES) --rows $(ROWS) > "$(BENCH_VENV)/transfer_full.json"
	@mv "$(BENCH_VENV)/transfer_full.json" benchmarks/results/transfer_full.json
	@cat benchmarks/results/transfer_full.json

# On the store that ENV_FILE names; without it, on the embedded one.
bench-tune: $(VENV)/.local
	@$(BIN)/python benchmarks/transfer/tune.py $(if $(ENV_FILE),--env-file $(ENV_FILE))

# The result replaces the stored one when it is whole.
bench-load: $(BENCH_VENV)/.ready
	@$(BENCH_VENV)/bin/python benchmarks/load.py --wallpapers $(WALLPAPERS) --rounds $(ROUNDS) \
		> "$(BENCH_VENV)/load.json"
	@mv "$(BENCH_VENV)/load.json" benchmarks/results/load.json

# After an edit, `make docs` again: the site that is served changes with it.
docs: $(DOCS_VENV)/.ready
	@$(DOCS_VENV)/bin/python tools/build_site.py

docs-serve: docs
	@$(DOCS_VENV)/bin/python -m http.server 8000 --bind 127.0.0.1 --directory .site/html

reference: $(VENV)/.dev
	@$(BIN)/python tools/reference.py

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/check-jsonschema -q --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema -q --builtin-schema vendor.dependabot .github/dependabot.yml
	@$(BIN)/check-jsonschema -q --builtin-schema vendor.github-issue-forms \
		.github/ISSUE_TEMPLATE/bug_report.yml .github/ISSUE_TEMPLATE/feature_request.yml
	@$(BIN)/check-jsonschema -q --builtin-schema vendor.github-issue-config \
		.github/ISSUE_TEMPLATE/config.yml
	@$(BIN)/zizmor -q --offline --no-progress --persona pedantic .github

# Of the outside world as it is today: it may turn red without a change of ours.
advisories: $(VENV)/.dev
	@$(BIN)/python tests/advisories.py

# Compiled for every platform and Python of the project at once; no index is named in the result.
# What is locked stays, unless a range in pyproject.toml excludes it; delete a file to renew it.
# Only uv can do that, and it is used for nothing else (docs/decisions/0013-pip-installs.md).
compile = $(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
	--system-certs --python-version 3.11

requirements: $(VENV)/.tools
	@$(BIN)/$(pip) --require-hashes -r requirements/lock.txt
	$(compile) pyproject.toml -o requirements/engine.txt
	$(compile) --extra local pyproject.toml -o requirements/local.txt
	$(compile) --extra local --group dev pyproject.toml -o requirements/dev.txt
	$(compile) --extra airflow --extra celery pyproject.toml -o requirements/airflow.txt
# The tests run what the image carries.
	$(compile) --extra airflow --extra celery --extra local --group airflow-test \
		--constraint requirements/airflow.txt pyproject.toml -o requirements/airflow-test.txt
# What the benchmark compares with, beside what the demo runs.
	$(compile) --extra local --constraint requirements/local.txt pyproject.toml \
		requirements/peers.in -o requirements/peers.txt
	$(compile) requirements/tools.in -o requirements/tools.txt
	$(compile) requirements/lock.in -o requirements/lock.txt
	$(compile) requirements/docs.in -o requirements/docs.txt

# What release.yml publishes.
dist: $(VENV)/.tools
	@rm -rf "$(CURDIR)/dist"
	@$(BIN)/python -m hatchling build -d dist

clean:
	rm -rf "$(CURDIR)/.venv" "$(CURDIR)/.venv-airflow" "$(CURDIR)/.venv-bench" \
		"$(CURDIR)/.venv-docs" "$(CURDIR)/.site" "$(CURDIR)/.collector"

# pip installs everything, as it is configured on this machine: index, proxy, certificates. A file of
# requirements names all that is needed, so nothing is looked for beside it.
pip = python -m pip install -q --disable-pip-version-check --no-deps

fits = import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
fitting = $(shell for name in $(PYTHON); do \
	if $$name -c '$(fits)' >/dev/null 2>&1; then echo $$name; break; fi; done)
python = $(or $(fitting),$(error Python 3.11 to 3.14 with venv is needed, and none of these is \
	one: $(PYTHON). Install it, or say where it is: make PYTHON=/path/to/python3.12))

$(VENV)/.tools: requirements/tools.txt
	@echo "setting up $(VENV) with $(python)"
	@$(python) -m venv $(VENV)
	@$(BIN)/$(pip) --require-hashes -r requirements/tools.txt
	@touch $@

# Into the environment that the target lies in, where the tools are that our own package needs.
define install
	@$(@D)/bin/$(pip) --require-hashes -r $(1)
	@$(@D)/bin/$(pip) --no-build-isolation --editable .
	@touch $@
endef

# One more environment, of the same Python.
define environment
	@echo "setting up $(@D)"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/$(pip) --require-hashes -r requirements/tools.txt
endef

$(VENV)/.local: requirements/local.txt pyproject.toml $(VENV)/.tools
	$(call install,requirements/local.txt)

$(VENV)/.dev: requirements/dev.txt pyproject.toml $(VENV)/.tools
	$(call install,requirements/dev.txt)
	@touch $(VENV)/.local

$(AIRFLOW_VENV)/.ready: requirements/airflow-test.txt pyproject.toml $(VENV)/.tools
	$(environment)
	$(call install,requirements/airflow-test.txt)

$(BENCH_VENV)/.ready: requirements/peers.txt pyproject.toml $(VENV)/.tools
	$(environment)
	$(call install,requirements/peers.txt)

# Needs nothing of ours: the pages of docs/reference are written by `make reference`.
$(DOCS_VENV)/.ready: requirements/docs.txt $(VENV)/.tools
	@echo "setting up $(@D)"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/$(pip) --require-hashes -r requirements/docs.txt
	@touch $@
