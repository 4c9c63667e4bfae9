# `make` lists what there is to do. Everything runs in .venv, which `make setup` keeps up to date.

PYTHON = python3
DATA = simulated
OUTPUT = out
K = 10
PORT = 5000
UPGRADE =
SIZE = small
DATASET =
REPEATS = 3

BIN := .venv/bin
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export MLFLOW_DISABLE_TELEMETRY = true
export GIT_PYTHON_REFRESH = quiet

.PHONY: help setup jars demo demo-azure test test-slow test-all bench lint format docs ui sql constraints clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; \
		do printf 'make %-12s %s\n' "$$name" "$$text"; done

setup:  ## install Python packages, this project and, where missing, Java
	@$(PYTHON) deploy/environment.py --venv .venv

demo: setup  ## run the whole flow (DATA=simulated or a file or URL, OUTPUT=out, K=10)
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mlflow run . -e main --env-manager local \
		--experiment-name recsys -P data='$(DATA)' -P output='$(OUTPUT)' -P k='$(K)'

jars: setup  ## fetch what Spark needs for Azure's storage
	@test -n "$$(ls .venv/jars/*hadoop-azure* 2>/dev/null)" || $(BIN)/python -m recsys.hadoop

demo-azure: jars  ## the flow on a cloud of this machine: Blob storage, a pool, a schedule
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.demo_azure

test: jars  ## run the quick tests
	$(BIN)/python -m pytest -m "not slow"

test-slow: jars  ## run the slow tests: drivers, executors and nodes that are killed
	$(BIN)/python -m pytest -m slow

test-all: test test-slow  ## run every test

bench: setup  ## time it beside its peers (SIZE=small|medium|large or DATASET=folder, REPEATS=3)
	$(BIN)/python -m benchmarks.speed $(if $(DATASET),--dataset '$(DATASET)',--size $(SIZE)) \
		--repeats $(REPEATS) --output '$(OUTPUT)/bench'

lint: setup  ## check style, types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## put the code into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## build the documentation's site into build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open build/site/index.html; its search needs a server:"
	@echo "  .venv/bin/python -m http.server --bind 127.0.0.1 --directory build/site 8000"

ui: setup  ## show the runs in a browser (PORT=5000)
	@echo "Open http://127.0.0.1:$(PORT)/?workflowType=machine_learning (Ctrl-C ends it)."
	@PYTHONWARNINGS=ignore MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server \
		--host 127.0.0.1 --port $(PORT) --allowed-hosts 127.0.0.1:$(PORT),localhost:$(PORT) \
		--workers 1 --backend-store-uri "$$MLFLOW_TRACKING_URI"

sql: setup  ## ask the flow's tables in Spark SQL (OUTPUT=out)
	@$(BIN)/python -m deploy.sql --root '$(OUTPUT)'

constraints:  ## pin all that conda.yaml's packages need (UPGRADE=--upgrade for newer ones)
	@test -x $(BIN)/uv || $(MAKE) setup
	@$(PYTHON) deploy/environment.py --requirements | $(BIN)/uv pip compile - --quiet $(UPGRADE) \
		--universal --python-version 3.11 --no-annotate --no-emit-index-url \
		--no-emit-find-links --custom-compile-command 'make constraints' \
		--output-file constraints.txt > /dev/null

clean:  ## remove caches and the demo's output; .venv and MLflow's runs stay
	rm -rf out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache spark-warehouse
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
