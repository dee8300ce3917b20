# Lantai 蘭臺. A bare `make` lists the targets.
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FONTS := $(VENV)/.fonts

.DEFAULT_GOAL := help
.PHONY: help setup check test bench load demo proto lint clean

help: ## 列出目标 · list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) $(FONTS) ## 建 .venv 并安装 · make .venv and install everything, versions pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PY) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(FONTS): $(STAMP) tools/fetch_fonts.py
	@$(BIN)/python tools/fetch_fonts.py && touch $@ || true # without them all but documents works; it said what to do

lint: $(STAMP) ## 格式、检查、类型、引入约束、proto · format, lint, types, import contracts, proto lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd proto && ../$(BIN)/buf lint

check: lint $(FONTS) ## lint 与单元测试 · lint and the unit tests (under 2 minutes)
	$(BIN)/pytest tests/unit -n 2 -m 'not slow'

test: $(STAMP) $(FONTS) ## 全部测试 · the whole test suite (T=path for a part); installs what it needs first
	$(BIN)/pytest $(or $(T),tests) -n 2 --dist loadfile

bench: $(STAMP) $(FONTS) ## 测量各项比值 · measure the figures as ratios to a peer or a floor in the same run (see docs/benchmarks.md)
	$(BIN)/python -m loadtest.bench $(ARGS)

load: $(STAMP) ## 运行压测计划 · run a load plan: make load PLAN=smoke
	$(BIN)/python -m loadtest $(or $(PLAN),smoke)

demo: $(STAMP) $(FONTS) ## 本机演示八馆 · eight archives and a gateway on this machine; ONCE=1 stops after one exchange
	$(BIN)/python -m examples.jiaxing.demo $(if $(ONCE),--once)

proto: $(STAMP) ## 重新生成桩代码 · regenerate the committed stubs
	$(BIN)/python tools/generate_stubs.py

clean: ## 清除产物 · remove what the other targets made
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache loadtest/results
