# Two commands do all the set-up: `make demo` and `make test`.
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
export OMP_NUM_THREADS ?= 2
# Where it is set, every process would compile torch and all it imports again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo check format test coverage shapes package bench reproduce docs explorer test-browser \
	kills fuzz soak hashes audit

NATIVE := src/nacs/native

setup: .venv/.stamp $(NATIVE)/built.json

.venv/.stamp: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "nacs needs Python 3.11 or newer"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt torch==2.13.0 -e '.[dev]'
	touch $@

# Without a C compiler nothing is made, and torch does the work (docs/adr/0009).
$(NATIVE)/built.json: .venv/.stamp $(wildcard $(NATIVE)/*.c $(NATIVE)/*.h)
	$(BIN)/python -m nacs.native

demo: setup
	$(BIN)/nacs demo

check: setup
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/basedpyright

format: setup
	$(BIN)/ruff format src tests benchmarks examples
	$(BIN)/ruff check --fix src tests benchmarks examples

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not slow'

# All tests, with those that take long, and what they reach of the code.
coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal \
		--cov --cov-report=term:skip-covered --cov-fail-under=90

# The same tests with every jaxtyping shape checked (docs/adr/0004); torch.compile cannot
# see through the checks.
shapes: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -k 'not bad_rivals and not bad_calls and not as_one_graph and not compile and not blocks_without_an_edge' --jaxtyping-packages=nacs.attentive,nacs.neuronal,nacs.sequence,nacs.tokenizers,nacs.baselines,beartype.beartype

# The wheel, installed alone into a new environment, runs the README's examples.
package: setup
	rm -rf build/package
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps -w build/package .
	$(PYTHON) -m venv build/package/venv
	build/package/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	build/package/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt build/package/nacs-*.whl
	OMP_NUM_THREADS=1 NACS_PACKAGE=build/package $(BIN)/python -m pytest -q tests/unit/test_package.py

bench: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q benchmarks
	$(BIN)/python benchmarks/summary.py

# Hours; goes on where it stopped. DATA=FOLDER has files that would be downloaded.
reproduce: setup
	$(BIN)/python benchmarks/demo_seeds.py
	$(BIN)/nacs reproduce all --results docs/results $(if $(DATA),--data $(DATA))

# Twenty kills; a hundred thousand broken inputs; an hour of training and one of serving.
kills: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/reliability.py

fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/run.py --inputs 105000
	$(BIN)/python benchmarks/reliability.py

MINUTES ?= 60
soak: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py --minutes $(MINUTES)
	$(BIN)/python benchmarks/reliability.py

# constraints-hashes.txt for this platform, from what pip would install.
hashes: setup
	mkdir -p build
	$(BIN)/pip install --quiet --disable-pip-version-check --dry-run --ignore-installed \
		--report build/report.json -c constraints.txt '.[dev]'
	$(BIN)/python benchmarks/hashes.py build/report.json

# Known vulnerabilities of what is pinned. It needs PyPI itself: of a mirror it would hear
# that nothing is known, so one package it cannot ask about ends it.
audit:
	@test -n "$(PYTHON)" || { echo "nacs needs Python 3.11 or newer"; exit 2; }
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && \
		build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit; } || \
		{ echo "audit: pip-audit cannot be installed here; nothing was asked"; exit 2; }
	build/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt

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
