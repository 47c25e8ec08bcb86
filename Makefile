PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

DEMO ?= out/demo

.PHONY: install demo real docs figures test mutants attack lock check format clean

install: $(STAMP)

demo: $(STAMP)
	@$(BIN)/sage demo

# The main job on a real language model; `make real REAL=--estimate` says how long it takes.
real: $(STAMP)
	@$(BIN)/sage real $(REAL)

# The README's first figure and its table, from what `make demo` found.
figures: $(STAMP)
	@$(BIN)/sage report $(DEMO) --out $(DEMO)/report
	@cp $(DEMO)/report/figures/overview/interpretable.svg notebooks/interpretable.svg
	@$(BIN)/python -m tests.benchmarks.readme_numbers $(DEMO) --write

# The pages of docs/ as a site: out/docs/index.html.
docs: $(STAMP)
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs out/docs && echo "Wrote out/docs/index.html"

test: $(STAMP)
	@$(BIN)/python -m pytest -rfEs --numprocesses logical --maxprocesses 8 --dist loadfile

# Hours: small changes of the science that no test notices. `make mutants MUTANTS="--sample 50 --rooms task"` tries fewer.
mutants: $(STAMP)
	@OMP_NUM_THREADS=1 nice -n 19 $(BIN)/python -m tests.mutants $(MUTANTS)

# Two minutes of the processor for 10,000 bad inputs and 1,000 changed files and settings, half an hour for 100 kills (`KILLS=0` leaves
# them out): nothing may end in a traceback, be lost, or be taken for something else.
KILLS ?= 100
attack: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack --cases 10000
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.store_keys --cases 1000
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack.kills --kills $(KILLS)

# The hashes of what constraints.txt names, torch aside. It reads the index, and downloads what has no hash there.
lock: $(STAMP)
	@grep -v '^torch==' constraints.txt > .venv/locked.txt
	@$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --no-deps --requirement .venv/locked.txt --report .venv/locked.json
	@$(BIN)/python .ci/lock.py .venv/locked.json > requirements.lock

check: $(STAMP)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find sage tasks tests -name __pycache__ -type d -prune -exec rm -rf {} +

# LOCK=requirements.lock installs only files with the hashes of the lock, and torch as the platform has it.
LOCK ?=
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into .venv: once, and again when pyproject.toml or constraints.txt change. This takes a minute or two."
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@test -z "$(LOCK)" || $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --requirement $(LOCK)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
