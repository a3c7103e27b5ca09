# Two commands matter: `make demo` and `make test`. `make help` lists the others.

PYTHON ?= python3
# More arguments for run, lab, compare, test and test-fast: make run CONTEST=params/x.yaml ARGS="--dry-run"
ARGS ?=
# So many fast tests run side by side, each with one thread. The slow ones start processes themselves.
TEST_PROCESSES ?= 2

BIN := .venv/bin
NOTEBOOKS := $(wildcard notebooks/*.ipynb docs/*.ipynb)
PAPERMILL_KEYS := metadata.papermill cell.metadata.papermill cell.metadata.execution

.DEFAULT_GOAL := help
.PHONY: help env demo run check lab compare export docs test test-fast test-long faults lint clean-env

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

env: .venv/.installed  ## make or update the environment in .venv

.venv/.installed: requirements.txt pyproject.toml setup.py
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not there: install Python 3.11 or later (Debian: apt-get install python3 python3-venv), or name one: make env PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than Python 3.11: install a later one and name it: make env PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make an environment: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	# Compiled once here; else every process compiles what it imports.
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -r requirements.txt -e .
	@touch $@

demo: env  ## draw the demo set, run all eight notebooks on it, print its score
	$(BIN)/python -m fgvc_utils.demo data/demo
	$(BIN)/fgvc run params/demo.yaml
	$(BIN)/python benchmarks/score_run.py outputs/demo data/demo/truth --report

run: env  ## run a contest: make run CONTEST=params/x.yaml [ARGS="--dry-run"]
	@test -n "$(CONTEST)" || { echo 'Name the contest: make run CONTEST=params/x.yaml' >&2; exit 2; }
	$(BIN)/fgvc run "$(CONTEST)" $(ARGS)

check: env  ## look for what would stop a contest, in seconds: make check CONTEST=params/x.yaml
	@test -n "$(CONTEST)" || { echo 'Name the contest: make check CONTEST=params/x.yaml' >&2; exit 2; }
	$(BIN)/fgvc check "$(CONTEST)"

export: env  ## cleaned labels for other tools: make export CONTEST=params/x.yaml [ARGS="csv issues"]
	@test -n "$(CONTEST)" || { echo 'Name the contest: make export CONTEST=params/x.yaml' >&2; exit 2; }
	$(BIN)/fgvc export "$(CONTEST)" $(ARGS)

lab: env  ## open working copies of the notebooks in JupyterLab: make lab [CONTEST=params/x.yaml]
	$(BIN)/fgvc lab "$(or $(CONTEST),params/demo.yaml)" $(ARGS)

compare: env  ## say how a second run differs from a first: make compare RUNS="demo demo-2"
	@test -n "$(RUNS)" || { echo 'Name two runs: make compare RUNS="demo demo-2"' >&2; exit 2; }
	$(BIN)/fgvc compare $(RUNS) $(ARGS)

docs: env .venv/.docs-installed  ## build the site of pages, notebooks and docstrings: build/docs/html
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/site/build.py

.venv/.docs-installed: requirements-docs.txt .venv/.installed
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -r requirements.txt -r requirements-docs.txt
	@touch $@

test: test-fast  ## the tests: the fast tier, then the slow one
	$(BIN)/python -m pytest -m "slow and not long" $(ARGS)

test-fast: env  ## the fast tests alone
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile -m "not slow" $(ARGS)

test-long: env  ## tests of minutes each: a contest on Slurm, a hundred jobs, the site of pages
	$(BIN)/python -m pytest -m long $(ARGS)

faults: env  ## kill a whole run at random, mutate files, kill writers: half an hour, outside the tests
	$(BIN)/python tests/faults $(ARGS)

lint: env  ## check style and format of code and notebooks, and that notebooks hold no output
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(if $(NOTEBOOKS),$(BIN)/nbstripout --verify --keep-id --extra-keys "$(PAPERMILL_KEYS)" $(NOTEBOOKS))

clean-env:  ## remove the environment
	rm -rf .venv
