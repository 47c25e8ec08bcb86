PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

DEMO ?= out/demo

.PHONY: demo real docs figures test mutants check format clean

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

$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into .venv: once, and again when pyproject.toml or constraints.txt change. This takes a minute or two."
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
