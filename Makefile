# `make repro` and `make test` each set up all they need: the environment is made anew only when a lock file has changed.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help repro test coverage mutants faults twice hosts check experiments bench format lock readme licenses audit s3 cluster environment development

VENV := .venv
BIN := $(VENV)/bin
# The first interpreter of a version that TensorFlow has wheels for.
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$name" && break; done)
# The stages find this environment's Python without its being activated.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

repro: environment ## run the pipeline: data, training, metrics and figures
	$(BIN)/dvc repro

test: development ## run the tests
	$(BIN)/pytest

coverage: development ## run the tests, and measure which lines and branches of src/ they reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage json --quiet
	@$(BIN)/python -c "import json; totals = json.load(open('coverage.json'))['totals']; \
		print('lines {percent_statements_covered:.1f} %, branches {percent_branches_covered:.1f} %'.format(**totals))"
	$(BIN)/coverage report

mutants: development ## change five modules in small ways, and list the changes that no test notices
	rm -rf mutants # its verdicts on code that has not changed are kept, whatever the tests now say
	$(BIN)/mutmut run --max-children 1
	$(BIN)/mutmut results

faults: development ## run the tests of faults and of bad input with more moments and many more examples
	DIGITS_FAULTS=full $(BIN)/pytest --timeout 3600 tests/test_sources.py tests/test_bad_input.py tests/test_faults_pipeline.py

twice: development ## run the pipeline in two fresh clones, and compare every byte: a quarter of an hour
	DIGITS_FULL=1 $(BIN)/pytest -n0 --capture=no tests/test_same_bytes.py -k fresh

check: development ## check style, types, workflows, and that dvc.lock is of this code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yaml
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/digits drift

format: development ## bring the code into the one style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

experiments: environment ## run the protocols that the reports may have followed
	$(BIN)/digits experiments

# The peers have an environment of their own: TensorFlow would import JAX where it finds it. pip brings no dependencies, as
# PyTorch's are libraries for GPUs, by the gigabyte. DVC must not look through it either.
PEERS := .venv-bench
bench: environment ## measure time and memory, beside other libraries: benchmarks/results.md
	@$(MAKE) --no-print-directory environment VENV=$(PEERS)
	@cmp -s benchmarks/requirements.txt $(PEERS)/benchmarks.txt || { \
		echo "Installing benchmarks/requirements.txt into $(PEERS)" && \
		$(PEERS)/bin/python -m pip install --quiet --no-deps --requirement benchmarks/requirements.txt && \
		echo '*' > $(PEERS)/.dvcignore && \
		cp benchmarks/requirements.txt $(PEERS)/benchmarks.txt; }
	$(PEERS)/bin/python benchmarks/run.py

# As root, a host is a network namespace with an address of its own. Needs the data in the DVC cache.
hosts: development ## show a sweep on three hosts, one of which dies: benchmarks/sweep.json
	$(BIN)/python benchmarks/sweep.py hosts

readme: environment ## write the tables of README.md from metrics/ and benchmarks/
	$(BIN)/digits readme

# uv resolves for every platform and Python version at once. No registry is named, so that the locks hold for any mirror.
LOCK := $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header pyproject.toml
lock: development ## bring requirements*.txt up to date with pyproject.toml
	$(LOCK) --output-file requirements.txt
	$(LOCK) --extra dev --constraints requirements.txt --output-file requirements-dev.txt
	$(LOCK) --extra s3 --constraints requirements-dev.txt --excludes requirements.txt --output-file requirements-s3.txt
	$(LOCK) --extra cluster --constraints requirements-dev.txt --excludes requirements.txt --output-file requirements-cluster.txt

s3: environment ## add what DVC needs for storage on S3
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-s3.txt

cluster: environment ## add what `digits sweep` needs
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-cluster.txt

audit: development ## ask the advisory database about every locked package (needs the internet)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements-dev.txt

LICENSES := $(BIN)/pip-licenses --from=mixed --format=markdown --with-system --packages
names = $$(sed -n 's/==.*//p' $(1))
licenses: development ## list the licence of every locked package: docs/licenses.md
	@{ printf '# Licences\n\n`make licenses` writes this page: what each locked package that Linux or macOS\n' && \
	printf 'installs says of itself. `namex` says nothing; the licence file in it is that of Apache 2.0.\n' && \
	printf '\n## To run the pipeline (requirements.txt)\n\n' && \
	$(LICENSES) $(call names,requirements.txt) && \
	printf '\n## To develop it, for storage on S3 and for sweeps (requirements-dev.txt)\n\n' && \
	$(LICENSES) $$(sed -n 's/==.*//p' requirements-dev.txt | grep -vxF "$(call names,requirements.txt)"); } > docs/licenses.md

# A copy of the lock is put into the environment once all of it is installed. It is compared by content: times mean nothing
# in a fresh clone. pip compiles to byte-code, even where PYTHONDONTWRITEBYTECODE is set: TensorFlow starts 7 s sooner for it.
install = cmp -s $(1) $(VENV)/$(1) || { \
	$(BIN)/python -m pip install --quiet --require-hashes --requirement $(1) && \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . && \
	cp $(1) $(VENV)/$(1); }

environment: $(BIN)/pip
	@cmp -s requirements.txt $(VENV)/requirements.txt || echo "Installing requirements.txt into $(VENV)"
	@$(call install,requirements.txt)

development: environment
	@cmp -s requirements-dev.txt $(VENV)/requirements-dev.txt || echo "Installing requirements-dev.txt into $(VENV)"
	@$(call install,requirements-dev.txt)

# pip comes last into a new environment: one that was cut short has none, and is made anew.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 is on the PATH: install one, or type make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
