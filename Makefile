# Everything runs in .venv, made on first use; only Python, make and PyPI are needed.
# (setuptools warns about every editable installation: hence PYTHONWARNINGS.)
PYTHON ?= python3
BIN := .venv/bin
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --quiet --disable-pip-version-check
ARGS ?=

.PHONY: setup demo demo-browser demo-distributed test check bench bench-balancer bench-browser bench-cost bench-policies soak clean

setup: .venv/test-ready .venv/dev-ready  ## the virtual environment, for tests and for checks

demo: .venv/test-ready  ## crawl a shop that bans, without and with the plugin
	$(BIN)/python example_project/demo.py

demo-browser: .venv/test-ready  ## the same shop by browser sessions; needs a Chromium
	$(BIN)/python example_project/demo_browser.py

demo-distributed: .venv/test-ready  ## crawl it with three processes that share URLs and sessions
	$(BIN)/python example_project/distributed_demo.py $(ARGS)

test: .venv/test-ready  ## all tests but the long ones, two files at a time; ARGS="-k name" picks
	$(BIN)/python -m pytest -m "not soak" --numprocesses 2 --dist loadfile $(ARGS)

soak: .venv/test-ready  ## the long fault and endurance tests: half an hour; on a busy machine two at most
	timeout --foreground --signal INT --kill-after 60 2h $(BIN)/python -m pytest -m soak --durations 0 $(ARGS)

check: .venv/dev-ready  ## linters, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/scrapy-lint "$(CURDIR)/scrapy_session_filter"  # it takes no relative paths
	cd example_project && ../$(BIN)/scrapy-lint

bench: .venv/dev-ready  ## all peers side by side, simulated and in real crawls, into docs/; ARGS="--parts scenarios,random"
	$(BIN)/python -m benchmarks.report $(ARGS)

bench-cost: .venv/test-ready  ## what the plugin costs
	$(BIN)/python -m benchmarks.overhead $(ARGS)
	$(BIN)/python -m benchmarks.pool_cost
	$(BIN)/python -m benchmarks.store_cost

bench-balancer: .venv/dev-ready  ## real crawls of a load balancer that bans; ARGS="--layouts limit"
	$(BIN)/python -m benchmarks.balancer $(ARGS)

bench-browser: .venv/dev-ready  ## 300 browser contexts, opened and closed; needs a Chromium
	$(BIN)/python -m benchmarks.browser_contexts $(ARGS)

bench-policies: .venv/dev-ready  ## all policies side by side in the simulator; ARGS="--seeds 1"
	$(BIN)/python -m benchmarks.run_arena $(ARGS)

clean:  ## remove what these commands have made
	rm -rf .venv .tox .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf build *.egg-info example_project/.scrapy
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(PIP) install --upgrade pip

.venv/%-ready: setup.cfg pyproject.toml | .venv/bin/python
	$(PIP) install -e '.[$*]'
	@touch $@
