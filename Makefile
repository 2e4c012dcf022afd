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
SETTINGS ?= fetch.corpus=minimal_pairs fetch.encoder=sentence-transformers/all-MiniLM-L6-v2 fetch.encoder_revision=null train.learning_rate=5.0e-5
SWEEP ?= train.batch_size=16,32 train.learning_rate=5.0e-5,3.0e-5,2.0e-5 train.epochs=2,3,4
# Recipes read these from their environment, as typed: make would expand `$5`, and the shell `~`.
TYPED := PYTHON PORT N SHAPE ENCODERS ENCODER SETTINGS SWEEP TEXT SCHEDULER
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export $(TYPED)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# dvc runs the stages in $$SHELL, and a user's shell may refuse that (nologin).
export SHELL
# The first would hide the project's modules from `python -m`. With the second, which containers often set, every stage
# would compile the packages' code anew, for seconds. The third would remove docstrings, which transformers reads.
unexport PYTHONSAFEPATH PYTHONDONTWRITEBYTECODE PYTHONOPTIMIZE
# DVC needs a user's name, and a home for its caches. A container's user may have neither.
ifeq ($(LOGNAME)$(USER),)
export USER := user-$(shell id -u)
endif
ifneq ($(shell test -w "$${HOME:-}" && echo writable),writable)
export HOME := $(CURDIR)/.dvc/tmp/home
endif

.PHONY: help .venv repository lock demo repro ui track predict report seeds data-curve reference scheduler worker sweep table test test-all verify torture audit bench profile docs lint clean

help: ## list the targets
	@grep -hE '^[a-z.-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv: ## set up .venv with the packages of requirements.lock
	@"$$PYTHON" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2> /dev/null || \
	  { echo "error: $$PYTHON is not Python 3.11 to 3.14: name one that is, as in make PYTHON=python3.12" >&2; exit 1; }
	@"$$PYTHON" set_up.py
	@test .dvc/plots.html -nt cola/report/plots_page.py || python -m cola.report.plots_page

repository:
	@case $$(LC_ALL=C git rev-parse 2>&1) in *"not a git repository"*) echo >&2 "error: this folder is in no git repository," \
	  "which DVC needs: get the project with git clone, or run git init && git add --all && git commit -m start"; exit 1;; esac

lock: .venv ## choose the newest packages that pyproject.toml allows; write requirements.lock
	python set_up.py lock

demo: repository .venv ## run the pipeline on generated sentences with a small encoder, in minutes
	python -m cola.experiments.dvc_experiments demo \
	  fetch.corpus=minimal_pairs "fetch.encoder=$$ENCODER" fetch.encoder_revision=null train.learning_rate=5.0e-5
	@python -m cola.report.console demo
	@echo "Look further:  make ui                                        the run in MLflow"
	@echo "               dvc exp apply demo && dvc plots show           its pictures"
	@echo "               make predict TEXT=\"The keys is here.\"          the model (after dvc exp apply demo)"

repro: repository .venv ## run the stages that are out of date, with params.yaml: the tutorial's fine-tuning
	@git diff --quiet HEAD -- params.yaml 2> /dev/null || [ $$? != 1 ] || echo "note: params.yaml is not as committed:" \
	  "git diff params.yaml shows the changes, and git checkout params.yaml undoes them"
	dvc repro

ui: .venv ## show the runs in MLflow, on http://127.0.0.1:5000 (make ui PORT=...)
	@python -m cola.report.mlflow_runs ui "$$PORT"

track: repository .venv ## record the result in MLflow, if its server was away before
	python -m cola.report.mlflow_runs track

predict: .venv ## classify a sentence with the trained model: make predict TEXT="The book was written by John."
	@python -m cola.predict "$$TEXT"

report: .venv ## write the result as one page, report.html, which opens without a network
	@python -m cola.report.page

seeds: repository .venv ## train with N seeds (make seeds N=10); print mean, standard deviation and interval
	python -m cola.experiments.seeds "$$N"

data-curve: repository .venv ## train with 100 to all training sentences, pretrained and not (make data-curve SETTINGS="...")
	python -m cola.experiments.data_curve "$$SETTINGS"

reference: repository .venv ## measure metrics/reference/ again: five seeds of each encoder (make reference ENCODERS=...)
	python -m cola.experiments.reference "$$ENCODERS"

scheduler: .venv ## start the scheduler of a cluster, on port 8786
	PYTHONPATH=. dask scheduler --no-dashboard

worker: .venv ## run experiments for a cluster: make worker SCHEDULER=tcp://first.example:8786
	PYTHONPATH=. dask worker "$${SCHEDULER:?which one? make worker SCHEDULER=tcp://first.example:8786}" --nthreads 1 --no-dashboard --local-directory .dvc/tmp

sweep: repository .venv ## train with the settings of BERT's paper: 18 trainings, which make table shows
	python -m cola.experiments.dvc_experiments sweep "$$SWEEP"

table: repository .venv ## list all experiments, the best first: their MCCs and settings
	@python -m cola.experiments.dvc_experiments table

test: .venv ## run the tests, in two minutes
	OMP_NUM_THREADS=1 python -m pytest --numprocesses logical --dist worksteal

test-all: .venv ## run the slow tests, too
	OMP_NUM_THREADS=1 python -m pytest --numprocesses logical --dist worksteal -m 'not torture and not gpu'

verify: repository .venv ## run the pipeline twice; compare every byte of its outputs
	python -m benchmarks.proofs.bytes

torture: .venv ## kill the pipeline at random moments; compare its bytes (minutes)
	python -m pytest -m torture -s

audit: .venv ## look up the locked packages in PyPI's database of vulnerabilities
	@pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement requirements.lock 2> .venv/audit.log || \
	  { grep '^Found' .venv/audit.log || echo "error: not checked: $$(tail -1 .venv/audit.log | sed 's/^ERROR:[^:]*://')"; exit 1; } >&2
	@echo "none of the locked packages has a known vulnerability"

bench: .venv ## measure speed beside the tutorial's loop and transformers' Trainer
	python -m benchmarks.speed

profile: .venv ## measure the parts of a training step: make profile SHAPE=all-MiniLM-L6-v2
	python -m benchmarks.profile "$$SHAPE"

docs: .venv ## write the results that the documents show, from metrics/reference/ and benchmarks/results/
	@python -m docs.generate

lint: .venv ## check style, types, the documents' results, and GitHub's workflow
	ruff check .
	ruff format --check .
	mypy
	python -m docs.generate --check
	zizmor --offline --no-progress --quiet .github/workflows

clean: ## remove .venv and the stages' outputs; DVC's cache and MLflow's records stay
	rm -rf .venv .dvc/tmp/exps/{copies,standalone} {data,models}/{*,.*.partial} metrics/{*.*,.*.partial} dvc_plots report.html .pytest_cache .mypy_cache .ruff_cache .hypothesis
