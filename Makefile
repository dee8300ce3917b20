# Lantai 蘭臺. A bare `make` lists the targets.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FONTS := $(VENV)/.fonts

.DEFAULT_GOAL := help
.PHONY: help setup check test bench load demo proto proto-check lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) $(FONTS) ## make .venv and install everything, versions pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PY) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(FONTS): $(STAMP) tools/fetch_fonts.py
	@$(BIN)/python tools/fetch_fonts.py && touch $@ || true # without them all but documents works; it said what to do

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint

check: lint $(FONTS) ## format, lint, types, import contracts, proto lint, unit tests (under 2 minutes)
	$(BIN)/pytest tests/unit -n 2 -m 'not slow'

test: $(STAMP) $(FONTS) ## the whole test suite (T=path for a part); installs what it needs first
	$(BIN)/pytest $(or $(T),tests) -n 2 --dist loadfile

bench: $(STAMP) $(FONTS) ## measure the figures as ratios to a peer or a floor in the same run (see docs/benchmarks.md)
	$(BIN)/python -m loadtest.bench $(ARGS)

load: $(STAMP) ## run a load plan: make load PLAN=smoke
	$(BIN)/python -m loadtest $(or $(PLAN),smoke)

demo: $(STAMP) $(FONTS) ## eight archives and a gateway on this machine; ONCE=1 stops after one exchange
	$(BIN)/python -m examples.jiaxing.demo $(if $(ONCE),--once)

proto: $(STAMP) ## regenerate the committed stubs
	$(BIN)/python tools/generate_stubs.py

clean: ## remove what the other targets made
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache loadtest/results
