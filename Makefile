# Everything from a fresh checkout: `make bench` and `make test` set up .venv first and need only Python and make.
#
#   make bench MODEL=vgg16 ARGS="--cuts all"     another model, other options
#   make test ARGS="-k wire"                     a part of the tests
#   make test PYTHON=python3.12                  another Python

PYTHON = python3
MODEL = resnet18
ARGS =

BIN = .venv/bin
# Made last, so a set-up that was broken off is taken up again by the next make.
STAMP = .venv/.installed

# uv gives up on a slow download after 30 s unless told otherwise.
UV_HTTP_TIMEOUT ?= 300
export UV_HTTP_TIMEOUT

# Every worker imports torch: with compiled bytecode kept that takes a third of the time.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help setup bench test lint check clean

help:
	@echo "make bench   measure every interesting cut of MODEL ($(MODEL)) between two workers on this machine"
	@echo "make test    run the tests"
	@echo "make setup   only make .venv, which the others do by themselves"
	@echo "make lint    ruff and mypy"
	@echo "make check   lint, then test"
	@echo "make clean   remove .venv and what tools left behind (runs/ stays)"

bench: $(STAMP)
	@$(BIN)/splitnet bench $(MODEL) $(ARGS)

test: $(STAMP)
	@$(BIN)/pytest $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

check:
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test

clean:
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "splitnet needs Python 3.11 or newer; '$(PYTHON)' is not: name another, as in make test PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "Making .venv ..."; \
	  $(PYTHON) -m venv --clear .venv || { \
	    echo "$(PYTHON) cannot make .venv (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }; }
	@echo "Installing splitnet and its dependencies into .venv: some 5 GB, most of it torch; minutes, once ..."
	@trap 'exit 130' INT TERM; \
	test -t 2 && quiet= || quiet=--quiet; \
	if $(BIN)/python -m pip install --quiet uv \
	  && $(BIN)/uv pip install $$quiet --python $(BIN)/python --editable '.[test]'; then :; else \
	  echo "uv did not manage it; trying again with pip ..."; \
	  $(BIN)/python -m pip install $$quiet --editable '.[test]' || { \
	    echo "Not installed, for the reason above; the next make takes it up again" >&2; exit 1; }; fi
	@touch $@
	@echo "Set up."
