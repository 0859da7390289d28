# What a user calls. `make demo` needs Python 3.11 or newer and a package index, nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
CORES ?= all
BIN := $(VENV)/bin
RUN := $(BIN)/snakemake --cores $(CORES)

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: $(VENV)/.workflow ## The whole chain on drawn slides, to results/report.html
	$(RUN)
	@echo "open results/report.html"

.PHONY: demo-multi-stage
demo-multi-stage: $(VENV)/.workflow ## Maps of drawn, annotated slides: classifier, U-Net and end-to-end learning, three seeds
	$(RUN) --configfile studies/multi-stage.yaml
	@echo "open results/studies/multi-stage/report.html"

.PHONY: test
test: $(VENV)/.test $(VENV)/.browser ## The tests (one backend, small networks, the browser)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not full and not faults and not slurm"

.PHONY: test-faults
test-faults: $(VENV)/.test ## Killed jobs, full disks, broken slides
	$(BIN)/python -m pytest -m "faults and not full"

# The first line says what a machine lacks, and fails; the tests alone would skip.
.PHONY: test-slurm
test-slurm: $(VENV)/.test $(VENV)/.slurm ## Studies on a real Slurm of this machine, whole and disturbed (root on Debian)
	tests/slurm/up.sh
	$(BIN)/python -m pytest tests/test_slurm.py -m "not full"

.PHONY: test-jax
test-jax: $(VENV)/.test ## Networks, training and augmentation on a second backend of Keras, JAX
	KERAS_BACKEND=jax $(BIN)/python -m pytest -m "backend and not full"

.PHONY: test-full
test-full: $(VENV)/.test $(VENV)/.slurm $(VENV)/.browser ## Every test, also those too long for every day
	$(BIN)/python -m pytest

.PHONY: lint
lint: $(VENV)/.test ## ruff, snakefmt, snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

.PHONY: bench
bench: $(VENV)/.test ## The table of speed and memory: ratios within one run
	$(BIN)/python bench/run.py

.PHONY: bench-gpu
bench-gpu: ## Training and extraction on a GPU, by any Python with keras, h5py and JAX or PyTorch: make bench-gpu PYTHON=...
	$(PYTHON) bench/gpu.py

.PHONY: nuclei
nuclei: $(VENV)/.workflow ## The study of 9,896 labelled nuclei; data/nuclei holds patches, labels.csv and weights
	$(BIN)/python studies/nuclei_sheet.py data/nuclei/labels.csv data/nuclei/sheet.tsv
	$(RUN) --configfile studies/nuclei.yaml

# Small models train side by side in less time than one after the other on two threads.
.PHONY: nuclei-strategies
nuclei-strategies: $(VENV)/.workflow ## Which strategy is best on the same nuclei: selection, inner layers, merging, ranks
	$(BIN)/python studies/nuclei_sheet.py data/nuclei/labels.csv data/nuclei/sheet.tsv
	$(RUN) --configfile studies/nuclei-strategies.yaml --set-threads train_classifier=1 select_features=1

.PHONY: nuclei-training
nuclei-training: $(VENV)/.workflow ## Transfer or full training, on the same nuclei: five ways to use one network
	$(BIN)/python studies/nuclei_sheet.py data/nuclei/labels.csv data/nuclei/sheet.tsv
	$(RUN) --configfile studies/nuclei-training.yaml

.PHONY: plan
plan: $(VENV)/.workflow ## Hours, disk and shards of a study: make plan SLIDES=1000 TILES=5000 NETWORKS="ResNet50 VGG16"
	@$(BIN)/python workflow_scripts/plan.py $(if $(SLIDES),--slides $(SLIDES)) $(if $(TILES),--tiles $(TILES)) \
	    $(if $(NETWORKS),--networks $(NETWORKS)) $(if $(GPUS),--gpus $(GPUS)) $(if $(MEASURE),--measure) $(PLAN)

.PHONY: digest
digest: $(VENV)/.workflow ## One digest of the content of results/, and of each file with DIGEST_FILES=1
	@$(BIN)/python workflow_scripts/print_digest.py results $(if $(DIGEST_FILES),--files)

.PHONY: lock
lock: ## Pin every version and hash anew (needs uv)
	cd envs && uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header \
	    --custom-compile-command "make lock" requirements.in -o requirements.txt
	cd envs && uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -c requirements.txt \
	    --custom-compile-command "make lock" requirements-test.in -o requirements-test.txt
	cd envs && uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-header -c requirements.txt \
	    --custom-compile-command "make lock" requirements-slurm.in -o requirements-slurm.txt

.PHONY: clean
clean: ## Remove results, logs and benchmarks, keep the environment
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

# The browser tests skip, saying so, where no Chromium is found and none can be installed.
$(VENV)/.browser: | $(VENV)/bin/python
	@command -v chromium chromium-browser google-chrome >/dev/null || tests/install_chromium.sh
	touch $@
