# Each of these works on a machine that has only Python 3.11+ and make: the environment is made when it is first needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check dist mutate docs figures site format clean

demo: .venv/ready
	$(BIN)/belvedere demo --overwrite

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder  # files in our order

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m pytest tests/test_layers.py

dist: .venv/ready
	$(BIN)/python tools/check_distribution.py

mutate: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[mutate]'
	OMP_NUM_THREADS=1 nice $(BIN)/mutmut run --max-children 2
	$(BIN)/python tools/mutation_score.py

docs: .venv/ready
	$(BIN)/python docs/generate.py

figures: .venv/ready
	$(BIN)/python docs/readme_figures.py

site: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going -c docs . build/docs

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Belvedere needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
