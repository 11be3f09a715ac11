# `make repro` and `make test` set up everything they need. The environment is installed again only when a lock changes.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help repro test check format coverage mutants faults test-bytes experiments bench calibration tables page lock \
	licenses audit repository environment development

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter on the PATH with a version that TensorFlow supports.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$name" && break; done)
# DVC starts the stages with this environment's Python, even if the environment is not activated.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 14

repro: repository environment ## run the pipeline: data, training, metrics and figures
	@echo "Running the pipeline; a first run takes four to eleven minutes"
	$(BIN)/dvc repro
	@$(BIN)/digits verify --after-repro

test: development ## run the tests of what a change is likely to break: four minutes on two idle cores
	$(BIN)/pytest -m "not faults"

check: development ## check style, types, workflows, dvc.lock, and the figures and links in the documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/rumdl check --quiet --no-cache .
	$(BIN)/python tools/results.py --check
	$(BIN)/python tools/check_docs.py
	$(BIN)/digits check-lock

format: development ## format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

coverage: development ## run the tests, and measure the coverage of src/ in lines and branches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not faults"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet
	@$(BIN)/python -c "import json; totals = json.load(open('coverage.json'))['totals']; \
		print('lines {percent_statements_covered:.1f} %, branches {percent_branches_covered:.1f} %'.format(**totals))"
	$(BIN)/coverage report

mutants: development ## mutate the modules that check input, and list the mutants that no test detects
	rm -rf mutants # results of earlier runs would be kept for code that has not changed
	$(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

# The second line runs files whose tests generate many more examples here than in `make test`.
faults: development ## run the tests of kills, full disks, lost workers and generated input: an hour
	DIGITS_FAULTS=full $(BIN)/pytest --timeout 3600 -m faults
	DIGITS_FAULTS=full $(BIN)/pytest --timeout 3600 -m "not faults" \
		tests/data/test_downloads.py tests/stages/test_bad_input.py tests/stages/test_configurations.py

test-bytes: development ## run the pipeline in two fresh clones, and compare every byte: 15 minutes
	DIGITS_FULL=1 $(BIN)/pytest -n0 --capture=no tests/stages/test_same_bytes.py -k fresh

experiments: environment ## run the protocols that the reports may have followed: half an hour
	$(BIN)/digits experiments

page: environment ## write page/index.html, on which a drawn or photographed digit is read in the browser
	$(BIN)/digits page

# The other libraries have their own environment, because Keras would import JAX. pip installs no dependencies: those of
# PyTorch are gigabytes of GPU libraries. The folder gets a .dvcignore, so that DVC does not search it. `make bench
# SECTIONS="epoch pipeline"` measures these sections only.
PEERS := .venv-bench
bench: environment ## measure training beside other libraries, and the pipeline: benchmarks/results.json
	@$(MAKE) --no-print-directory environment VENV=$(PEERS)
	@cmp -s benchmarks/requirements.txt $(PEERS)/benchmarks.txt || { \
		echo "Installing benchmarks/requirements.txt into $(PEERS)" && \
		$(PEERS)/bin/python -m pip install --quiet --no-deps --requirement benchmarks/requirements.txt && \
		echo '*' > $(PEERS)/.dvcignore && \
		cp benchmarks/requirements.txt $(PEERS)/benchmarks.txt; }
	$(PEERS)/bin/python benchmarks/run.py $(SECTIONS)

# With QMNIST's table: make calibration WRITERS="path/or/URL SHA-256". Pools that benchmarks/calibration/ lacks are trained.
calibration: environment ## measure how often a verdict is right: benchmarks/calibration.json
	$(BIN)/python benchmarks/calibration.py $(if $(WRITERS),--writers $(WRITERS))

tables: environment ## write the tables of results in README.md and docs/results.md
	$(BIN)/python tools/results.py

# uv resolves for every platform and Python version. The locks name no registry, so that they work with any mirror.
LOCK := $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml
lock: development ## update requirements.txt, and what development adds to it, after a change of pyproject.toml
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraints requirements.txt --output-file requirements-dev.txt
	{ echo "-r requirements.txt" && grep -vxFf requirements.txt requirements-dev.txt; } > $(VENV)/added.txt
	mv $(VENV)/added.txt requirements-dev.txt

LICENSES := $(BIN)/pip-licenses --from=mixed --format=markdown --with-system --packages
names = $$(sed -n 's/==.*//p' $(1))
licenses: development ## list the licence of every locked package: docs/licenses.md
	@{ printf '# Licences\n\n`make licenses` writes this page. It lists the licence that each locked package for Linux or\n' && \
	printf 'macOS declares. `namex` declares none; the licence file in the package is Apache 2.0.\n' && \
	printf '\n## For every command (requirements.txt)\n\n' && \
	$(LICENSES) $(call names,requirements.txt) && \
	printf '\n## For development (requirements-dev.txt)\n\n' && \
	$(LICENSES) $(call names,requirements-dev.txt); } > docs/licenses.md

audit: development ## look up every locked package in the advisory database (needs the internet)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements-dev.txt

# uv installs in a third of the time that pip takes. If uv is not available or fails, pip installs the same lock. Both
# enforce the hashes and compile byte-code, even if PYTHONDONTWRITEBYTECODE is set: TensorFlow then starts 7 s sooner.
# A copy of the lock is stored in the environment after a complete installation. Locks are compared by content, because
# times mean nothing in a fresh clone.
INSTALLER ?= uv
UV ?= $(BIN)/uv
by_pip = $(BIN)/python -m pip install --quiet --require-hashes --requirement $(1)
uv_lock = sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt # its lines up to the first that does not continue
by_uv = { test -x $(UV) || $(uv_lock) | $(BIN)/python -m pip install --quiet --require-hashes --requirement /dev/stdin; } && \
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode --requirement $(1)
install = cmp -s $(1) $(VENV)/$(1) || { \
	echo "Installing $(1) into $(VENV) with $(INSTALLER)" && \
	{ { test $(INSTALLER) = uv && { $(by_uv) || { echo "uv failed: installing with pip" && false; }; }; } || $(by_pip); } && \
	cp $(1) $(VENV)/$(1); }
# The editable installation of this package itself.
package = cmp -s pyproject.toml $(VENV)/pyproject.toml || { \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . && \
	cp pyproject.toml $(VENV)/pyproject.toml; }

# DVC needs Git. An archive has none, which must be said before gigabytes are installed.
repository:
	@test -e .git || { echo "This folder is not a Git repository; perhaps it was unpacked from an archive. Get it with git clone," \
		"or type git init && git add . && git commit -m Start"; exit 1; }

environment: $(BIN)/pip
	@$(call install,requirements.txt)
	@$(package)

development: environment
	@$(call install,requirements-dev.txt)

# venv installs pip last: an environment without it is incomplete, and is created again.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 is on the PATH: install one, or type make PYTHON=/path/to/python"; exit 1; }
	@echo "Creating the environment $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
