# Every command of the README. `make help` lists them.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin
RUN := $(BIN)/python -m

.PHONY: help install demo test test-slurm lint bench bench-gpu slurm-check slurm-recover corpora docs schemas lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: .venv/installed ## create .venv from requirements.lock

.venv/installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "serflow needs Python 3.11 or newer; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(RUN) pip install --quiet --requirement requirements.lock
	touch $@

demo: install ## run the demo study: the whole chain on synthetic speech
	@$(RUN) snakemake --cores $(CORES) --quiet rules --config 'studies=[demo]'

# A worker that crashes is not replaced: pytest-xdist 3.8 then waits for ever (its issue 1378).
test: install ## run every test, two files at a time
	@$(RUN) pytest --numprocesses 2 --no-loadscope-reorder --max-worker-restart 0

# Apart from `make test`, since it needs root: it installs Debian's Slurm where that lacks.
test-slurm: install ## test on a private Slurm cluster, faults included: as root, on Debian
	@$(RUN) pytest --numprocesses 2 --no-loadscope-reorder --max-worker-restart 0 tests/slurm

lint: install ## check style: ruff, snakefmt, snakemake --lint
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

bench: install ## measure speed; the figures of docs/performance.md
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; PYTHONPATH=workflow/scripts:tests $(BIN)/python $$file || exit 1; done

bench-gpu: install ## time training at full size on a GPU; SYSTEMS=taltech_lora times one system
	@PYTHONPATH=workflow/scripts:tests $(BIN)/python tests/benchmarks/gpu.py $(SYSTEMS)

slurm-check: install ## which jobs would find no place on this cluster; STUDIES="odyssey2024 emodb" checks these
	@PYTHONPATH=workflow/scripts $(RUN) serflow.cluster.check $(STUDIES)

slurm-recover: install ## go on after Snakemake was killed: HOW=wait for its jobs (default), cancel or list them
	@PYTHONPATH=workflow/scripts $(RUN) serflow.cluster.recover $(or $(HOW),wait) $(ARGS)

corpora: install ## list the corpora: present, downloadable, or whom to ask
	@PYTHONPATH=workflow/scripts $(RUN) serflow.catalogue list config.yaml

docs: install ## regenerate docs/corpora.md from the corpus modules
	PYTHONPATH=workflow/scripts $(RUN) serflow.catalogue page docs/corpora.md

schemas: install ## regenerate workflow/schemas from the typed settings
	PYTHONPATH=workflow/scripts $(RUN) serflow.config.schemas workflow/schemas

lock: ## pin the newest allowed dependencies in requirements.lock
	$(PYTHON) envs/lock.py

clean: ## remove all results, but not the downloaded archives
	find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name downloads -exec rm -rf {} +
