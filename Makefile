# Commands for users and developers. `make demo` needs only Python 3.11 or newer and access to a package index.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
CORES ?= all
BIN := $(VENV)/bin
RUN := $(BIN)/snakemake --cores $(CORES)

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: install
install: $(VENV)/.workflow ## Make the environment of the workflow in .venv; other targets do so when they need it

.PHONY: demo
demo: $(VENV)/.workflow ## Run the default study on drawn slides; writes results/report.html
	$(RUN)
	@echo "open results/report.html"

.PHONY: demo-multi-stage
demo-multi-stage: $(VENV)/.workflow ## Run the study of maps on drawn, annotated slides: classifier, U-Net, end-to-end learning
	$(RUN) --configfile studies/multi-stage.yaml
	@echo "open results/studies/multi-stage/report.html"

.PHONY: test
test: $(VENV)/.test $(VENV)/.browser ## Run the everyday tests: one backend, small networks, the pages in a browser
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not full and not faults and not slurm"

.PHONY: test-faults
test-faults: $(VENV)/.test ## Run the tests with killed jobs, full disks and broken slides
	$(BIN)/python -m pytest -m "faults and not full"

# up.sh stops with a message if this machine cannot run Slurm. Without it the tests would be skipped.
.PHONY: test-slurm
test-slurm: $(VENV)/.test $(VENV)/.slurm ## Run the tests on a real Slurm on this machine (needs root on Debian)
	tests/slurm/up.sh
	$(BIN)/python -m pytest tests/test_slurm.py -m "not full"

.PHONY: test-jax
test-jax: $(VENV)/.test ## Run the tests of networks, training and augmentation with JAX as backend of Keras
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m "backend and not full"

.PHONY: test-full
test-full: $(VENV)/.test $(VENV)/.slurm $(VENV)/.browser ## Run all tests, including the long ones
	$(BIN)/python -m pytest

.PHONY: lint
lint: $(VENV)/.test ## Check the code with ruff, snakefmt and snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

.PHONY: bench
bench: $(VENV)/.test ## Measure speed and memory; prints a table of ratios
	$(BIN)/python bench/run.py

# PYTHON is any Python with keras, h5py, and JAX or PyTorch.
.PHONY: bench-gpu
bench-gpu: ## Measure training and extraction on a GPU: make bench-gpu PYTHON=...
	$(PYTHON) bench/gpu.py

.PHONY: nuclei
nuclei: $(VENV)/.workflow ## Run the study of transfer on 9,896 nuclei; data/nuclei must contain patches, labels.csv and weights
	$(BIN)/python studies/nuclei_sheet.py data/nuclei/labels.csv data/nuclei/sheet.tsv
	$(RUN) --configfile studies/nuclei.yaml

# Two small models on one thread each are trained faster in parallel than one after the other on two threads.
.PHONY: nuclei-strategies
nuclei-strategies: $(VENV)/.workflow ## Run the study of strategies on the same nuclei: selection, inner layers, merging, ranks
	$(BIN)/python studies/nuclei_sheet.py data/nuclei/labels.csv data/nuclei/sheet.tsv
	$(RUN) --configfile studies/nuclei-strategies.yaml --set-threads train_classifier=1 select_features=1

.PHONY: nuclei-training
nuclei-training: $(VENV)/.workflow ## Run the study of transfer and full training on the same nuclei
	$(BIN)/python studies/nuclei_sheet.py data/nuclei/labels.csv data/nuclei/sheet.tsv
	$(RUN) --configfile studies/nuclei-training.yaml

.PHONY: plan
plan: $(VENV)/.workflow ## Estimate time, disk space and shards of a study: make plan SLIDES=1000 TILES=5000 NETWORKS="ResNet50 VGG16"
	@$(BIN)/python workflow_scripts/plan.py $(if $(SLIDES),--slides $(SLIDES)) $(if $(TILES),--tiles $(TILES)) \
	    $(if $(NETWORKS),--networks $(NETWORKS)) $(if $(GPUS),--gpus $(GPUS)) $(if $(MEASURE),--measure) $(PLAN)

.PHONY: digest
digest: $(VENV)/.workflow ## Print a digest of the content of results/; with DIGEST_FILES=1 also of each file
	@$(BIN)/python workflow_scripts/print_digest.py results $(if $(DIGEST_FILES),--files)

.PHONY: lock
lock: ## Update the pinned versions and hashes (needs uv)
	cd envs && uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header \
	    --custom-compile-command "make lock" requirements.in -o requirements.txt
	cd envs && uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -c requirements.txt \
	    --custom-compile-command "make lock" requirements-test.in -o requirements-test.txt
	cd envs && uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -c requirements.txt \
	    --custom-compile-command "make lock" requirements-slurm.in -o requirements-slurm.txt

.PHONY: clean
clean: ## Remove results, logs and benchmarks; keep the environment
	rm -rf results logs benchmarks .snakemake

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "histotransfer needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.workflow: envs/requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/requirements.txt
	touch $@

$(VENV)/.test: envs/requirements-test.txt $(VENV)/.workflow
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/requirements-test.txt
	touch $@

$(VENV)/.slurm: envs/requirements-slurm.txt $(VENV)/.workflow
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/requirements-slurm.txt
	touch $@

# Without Chromium the browser tests are skipped, with a message.
$(VENV)/.browser: | $(VENV)/bin/python
	@command -v chromium chromium-browser google-chrome >/dev/null || tests/install_chromium.sh
	touch $@
