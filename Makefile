# Two commands do all the set-up: `make demo` and `make test`.
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
export OMP_NUM_THREADS ?= 2

.PHONY: setup demo check format test shapes bench reproduce docs explorer test-browser

NATIVE := src/nacs/native

setup: .venv/.stamp $(NATIVE)/built.json

.venv/.stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "nacs needs Python 3.11 or newer"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# Without a C compiler nothing is made, and torch does the work (docs/adr/0009).
$(NATIVE)/built.json: .venv/.stamp $(wildcard $(NATIVE)/*.c $(NATIVE)/*.h)
	$(BIN)/python -m nacs.native

demo: setup
	$(BIN)/nacs demo

check: setup
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/basedpyright

format: setup
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --cov --cov-report=term:skip-covered --cov-fail-under=90

# The same tests with every jaxtyping shape checked (docs/adr/0004); torch.compile cannot
# see through the checks.
shapes: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -k 'not bad_rivals and not bad_calls and not as_one_graph' --jaxtyping-packages=nacs.attentive,nacs.neuronal,nacs.sequence,nacs.tokenizers,nacs.baselines,beartype.beartype

bench: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q benchmarks
	$(BIN)/python benchmarks/summary.py

# Hours; goes on where it stopped. DATA=FOLDER has files that would be downloaded.
reproduce: setup
	$(BIN)/python benchmarks/demo_seeds.py
	$(BIN)/nacs reproduce all --results docs/results $(if $(DATA),--data $(DATA))

# Every example is run, then the pages are built into site/, without a warning.
docs: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --doctest-modules src/nacs tests/unit/test_snippets.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The explorer's page, built into the package; needs Node. What is built is committed.
explorer:
	cd explorer && npm ci --no-audit --no-fund && npm run build

# The explorer in a real browser; CHROMIUM says where it is, screenshots go to build/.
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser)
test-browser: setup
	@test -n "$(CHROMIUM)" || { echo "needs Chromium: apt-get install chromium"; exit 2; }
	OMP_NUM_THREADS=1 NACS_BROWSER=$(CHROMIUM) $(BIN)/python -m pytest -q -n 2 tests/browser
