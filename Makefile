# Every target sets up .venv itself when it is not up to date. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
PORT ?= 5000
N ?= 10
SHAPE ?= bert-base-uncased
ENCODERS ?= sentence-transformers/all-mpnet-base-v2 sentence-transformers/all-MiniLM-L6-v2
ENCODER ?= sentence-transformers/all-MiniLM-L6-v2
SETTINGS ?= fetch.corpus=minimal_pairs fetch.encoder=sentence-transformers/all-MiniLM-L6-v2 train.learning_rate=5.0e-5
SWEEP ?= train.batch_size=16,32 train.learning_rate=5.0e-5,3.0e-5,2.0e-5 train.epochs=2,3,4
# Recipes have these from their environment, as the user has typed them: make would read `$5`, and the shell `~`.
TYPED := PYTHON PORT N SHAPE ENCODERS ENCODER SETTINGS SWEEP TEXT SCHEDULER
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export $(TYPED)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# dvc runs the stages in $$SHELL, and a user's may refuse to run anything.
export SHELL
# DVC needs a name for the user, and a home for its caches: a container's user may have neither.
ifeq ($(LOGNAME)$(USER),)
export USER := user-$(shell id -u)
endif
ifneq ($(shell test -w "$$HOME" && echo writable),writable)
export HOME := $(CURDIR)/.dvc/tmp/home
endif

.PHONY: help .venv repository lock demo repro ui track predict report seeds data-curve reference worker sweep table test test-all verify torture audit bench profile docs lint clean

help: ## list the targets
	@grep -hE '^[a-z.-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv: ## set up the environment alone: the packages of requirements.lock, in .venv
	@"$$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2> /dev/null || \
	  { echo "error: $$PYTHON is not Python 3.11 to 3.14: name one that is, as in make PYTHON=python3.12" >&2; exit 1; }
	@"$$PYTHON" set_up.py
	@test -e .dvc/plots.html || python -m cola.report.plots_page

repository:
	@case $$(LC_ALL=C git rev-parse 2>&1) in *"not a git repository"*) echo >&2 "error: this folder is in no git repository," \
	  "which DVC needs: get the project with git clone, or run git init && git add --all && git commit -m start"; exit 1;; esac

lock: .venv ## choose the newest packages that pyproject.toml allows, and write requirements.lock
	python set_up.py lock

demo: repository .venv ## the whole pipeline in minutes, with nothing but a package index: a small encoder, a generated corpus
	python -m cola.experiments.dvc_queue demo \
	  fetch.corpus=minimal_pairs "fetch.encoder=$$ENCODER" train.learning_rate=5.0e-5
	@python -m cola.report.console demo
	@echo "Look further:  make ui                                        the run in MLflow"
	@echo "               dvc exp apply demo && dvc plots show           its pictures"
	@echo "               make predict TEXT=\"The keys is here.\"          the model (after dvc exp apply demo)"

repro: repository .venv ## run what is out of date of the pipeline, with params.yaml: the tutorial's fine-tuning
	dvc repro

ui: .venv ## show the runs in MLflow, on http://127.0.0.1:5000 (make ui PORT=...)
	@python -m cola.report.mlflow_runs ui "$$PORT"

track: repository .venv ## record the result here in MLflow, if its server was away when it was made
	python -m cola.report.mlflow_runs track

predict: .venv ## judge a sentence with the trained model: make predict TEXT="The book was written by John."
	@python -m cola.predict "$$TEXT"

report: .venv ## write the result here as one page, report.html, which opens without a network
	@python -m cola.report.page

seeds: repository .venv ## train with N seeds (make seeds N=10), and say what they have in common
	python -m cola.experiments.seeds "$$N"

data-curve: repository .venv ## what pretraining is worth with 100 to all training sentences (make data-curve SETTINGS="seed...")
	python -m cola.experiments.data_curve "$$SETTINGS"

reference: repository .venv ## measure metrics/reference/ anew: five seeds of each encoder (make reference ENCODERS=...)
	python -m cola.experiments.reference "$$ENCODERS"

worker: .venv ## train seeds for a cluster, one at a time: make worker SCHEDULER=tcp://first.example:8786
	PYTHONPATH=. dask worker "$${SCHEDULER:?which one? make worker SCHEDULER=tcp://first.example:8786}" --nthreads 1 --no-dashboard --local-directory .dvc/tmp

sweep: repository .venv ## try the settings that BERT's paper recommends: 18 trainings; make table shows them
	python -m cola.experiments.dvc_queue sweep "$$SWEEP"

table: repository .venv ## the experiments so far, the best first: their MCC, and the settings that they change
	@python -m cola.experiments.dvc_queue table

test: .venv ## run the tests, in three minutes
	OMP_NUM_THREADS=1 python -m pytest --numprocesses logical --dist worksteal

test-all: .venv ## run the slow tests, too: MiniLM, CoLA, servers that hang, a database, a cluster
	OMP_NUM_THREADS=1 python -m pytest --numprocesses logical --dist worksteal -m 'not torture and not gpu'

verify: repository .venv ## run the pipeline twice, and compare every byte of what it writes
	python -m benchmarks.proofs.bytes

torture: .venv ## kill the pipeline at random moments, again and again, and compare its bytes (minutes)
	python -m pytest -m torture -s

audit: .venv ## look up the locked packages in PyPI's database of known vulnerabilities
	@pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement requirements.lock 2> .venv/audit.log || \
	  { grep '^Found' .venv/audit.log || echo "error: not checked: $$(tail -1 .venv/audit.log | sed 's/^ERROR:[^:]*://')"; exit 1; } >&2
	@echo "none of the locked packages has a known vulnerability"

bench: .venv ## how fast this is beside the tutorial's loop and transformers' Trainer, on this machine
	python -m benchmarks.speed

profile: .venv ## where the time of a training step goes: make profile SHAPE=all-MiniLM-L6-v2
	python -m benchmarks.profile "$$SHAPE"

docs: .venv ## write the results that the documents show, from metrics/reference/ and benchmarks/results/
	@python -m docs.generate

lint: .venv ## check style, types, the results in the documents, and the workflow of GitHub
	ruff check .
	ruff format --check .
	mypy
	python -m docs.generate --check
	zizmor --offline --no-progress --quiet .github/workflows

clean: ## remove the environment and what the stages wrote; DVC's cache and MLflow's records stay
	rm -rf .venv {data,models}/{*,.*.partial} metrics/{*.*,.*.partial} dvc_plots report.html .pytest_cache .mypy_cache .ruff_cache .hypothesis
