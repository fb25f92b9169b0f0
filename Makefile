# Everything a fresh machine needs: Python 3.11 to 3.13 and make. `make demo` is the way in.
#
# VENV is where it all goes; PYTHON is used once, to make it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Two workers, a file of tests each at a time: servers are started once for each worker.
PYTEST_ARGS ?= -n 2 --dist loadfile
export COLLECTOR_HOME ?= $(CURDIR)/.collector

.PHONY: help setup demo test lint clean requirements

help:
	@echo "make demo    set up, then mirror a simulated search end to end"
	@echo "make test    set up, then run the test suite"
	@echo "make lint    ruff, mypy, import contracts"
	@echo "make setup   only set up, in $(VENV)"
	@echo "make clean   remove .venv and .collector"

setup: $(VENV)/.local

demo: $(VENV)/.local
	@$(BIN)/python -m collector demo

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Compiled for every platform and Python of the project at once; no index is named in the result.
requirements: $(VENV)/.tools
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 pyproject.toml -o requirements/engine.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra local pyproject.toml -o requirements/local.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra local --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra airflow --extra celery pyproject.toml -o requirements/airflow.txt
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 requirements/tools.in -o requirements/tools.txt

clean:
	rm -rf "$(CURDIR)/.venv" "$(CURDIR)/.collector"

# pip installs uv once, by hash; uv installs the rest, faster, by the same hashes.
$(VENV)/.tools: requirements/tools.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"Python 3.11 to 3.13 is needed, this is {v[0]}.{v[1]}; say make PYTHON=python3.12")'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $@

define install
	@$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode --require-hashes -r $(1)
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(VENV)/.local: requirements/local.txt pyproject.toml $(VENV)/.tools
	$(call install,requirements/local.txt)

$(VENV)/.dev: requirements/dev.txt pyproject.toml $(VENV)/.tools
	$(call install,requirements/dev.txt)
	@touch $(VENV)/.local
