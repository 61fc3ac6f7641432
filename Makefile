# make demo    make a small dataset from bundled photographs and videos, look at it, train on it
# make test    every check: formatting, lint, types, import rules, tests (continuous integration)
# make help    the other targets
#
# Needs Python 3.11 or later and the Internet or a package mirror; everything is installed into
# .venv/, where the rest of the machine does not see it.

# The interpreter that .venv/ is made of.
PYTHON ?= python3
# Which build of PyTorch to install. On Linux the one on PyPI is for CUDA and gigabytes large.
#   cpu    from download.pytorch.org, or from wherever PIP_FIND_LINKS points (200 MB)
#   cuda   from PyPI
TORCH ?= cpu
# Optimiser steps of `make demo`: about two minutes on two cores.
DEMO_STEPS ?= 200
# Processes that run the tests.
TEST_PROCESSES ?= 2

# `make paper`: where its videos and benchmark are, and how long it trains on how many GPUs.
VIDEOS ?=
VID4 ?=
GPUS ?= 1
# A source list (--sources), where a tenth of few videos would be none for validation.
PAPER_SOURCES ?=
PAPER ?= build/paper
PAPER_CONFIG ?= cavsr
PAPER_STEPS ?= 300000
PAPER_PRETRAIN_STEPS ?= 20000
PAPER_OPTIONS ?= --frames 7 --crop 64 --batch-size 8 --learning-rate 2e-4 --validate-every 5000 \
	--precision bfloat16 --compile --workers 8

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(TORCH)
DEMO := build/demo

TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
ifeq ($(TORCH),cuda)
# `===` compares text: an installed 2.x.y+cpu does not do.
TORCH_INSTALL := "torch===$(TORCH_VERSION)"
else ifneq ($(TORCH),cpu)
$(error TORCH is '$(TORCH)': choose cpu or cuda)
else ifeq ($(shell uname -s),Linux)
# The local version is asked for, so that an unreachable index cannot end in PyPI's CUDA build;
# few retries, since without the Internet each costs seconds.
TORCH_INSTALL := --retries 2 --timeout 10 --extra-index-url $(TORCH_CPU_INDEX) \
	"torch==$(TORCH_VERSION)+cpu"
else
TORCH_INSTALL := "torch==$(TORCH_VERSION)"
endif

.DELETE_ON_ERROR:
.PHONY: help setup servers demo paper paper-asked test lint format docs benchmark clean

help:
	@echo "make setup      create .venv/ and install everything (TORCH=cpu or cuda)"
	@echo "make servers    install the object stores that the tests of stores need; without, they are skipped"
	@echo "make demo       synthesise a small dataset, draw a contact sheet, train briefly"
	@echo "make test       lint, then run the tests"
	@echo "make lint       check formatting, lint, types and import rules"
	@echo "make format     reformat the code, fix what can be fixed"
	@echo "make docs       write the reference pages again"
	@echo "make paper      train the paper's size on GPUs: VIDEOS=folder VID4=folder GPUS=count"
	@echo "make benchmark  measure speed"
	@echo "make clean      remove build/ and caches, keep .venv/"

setup: $(STAMP)

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "$(PYTHON) is not installed: install Python 3.11 or later," \
			"or name one: make PYTHON=/path/to/python3"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1), Python 3.11 or later is needed;" \
			"name one: make PYTHON=/path/to/python3"; exit 2; }
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

# Python compiles what is imported when it is first imported: of all that is installed, a part.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	rm -f $(VENV)/installed-*
	$(BIN)/python -m pip install --no-compile --no-deps $(TORCH_INSTALL) || { \
		echo "No PyTorch $(TORCH_VERSION) for '$(TORCH)'. If $(TORCH_CPU_INDEX)" \
			"cannot be reached: make PIP_FIND_LINKS=/folder/with/its/wheel," \
			"or TORCH=cuda for the build on PyPI."; exit 2; }
	$(BIN)/python -m pip install --no-compile --constraint constraints.txt \
		--editable ".[pipelines,stores,training,demo,dask,dev]"
	@touch $@

# Servers that the tests of stores start; their libraries do not go with this project's.
servers: build/servers/installed

build/servers/installed: tests/stores/servers.txt | $(BIN)/python
	$(BIN)/python -m venv build/servers
	build/servers/bin/python -m pip install --no-compile --retries 1 --timeout 10 --no-deps \
		--requirement $<
	@touch $@

# The dataset is kept and finished where it was interrupted; the training starts afresh.
demo: setup
	$(BIN)/python -m pipelines.synthesize --runner=DirectRunner
	$(BIN)/python -m pipelines.contact_sheet $(DEMO)/dataset --output $(DEMO)/contact-sheet.png
	rm -rf $(DEMO)/run
	$(BIN)/python -m training.train $(DEMO)/dataset --run $(DEMO)/run \
		--steps $(DEMO_STEPS) --crop 32
	@echo
	@echo "Made in $(DEMO)/:"
	@echo "  dataset/           shards (tar -tf $(DEMO)/dataset/data/train-000000.tar), Parquet tables, manifest.json"
	@echo "  contact-sheet.png  samples with their streams, frame types and quantisers: open it"
	@echo "  run/               weights, scores; curves: $(BIN)/tensorboard --logdir $(DEMO)/run"
	@echo "Next:"
	@echo "  $(BIN)/python -m pipelines.synthesize --help       your own videos and images"
	@echo "  $(BIN)/python -m training.train --help             longer, on a GPU, on your dataset"

# From videos to the table beside the published rows; goes on where it was interrupted.
PAPER_LIST := $(if $(PAPER_SOURCES),--sources "$(PAPER_SOURCES)")
resumed = $(if $(wildcard $(1)),--resume)
paper-asked:
	@test -d "$(VIDEOS)" -a -d "$(VID4)" || { \
		echo "VIDEOS ('$(VIDEOS)') and VID4 ('$(VID4)') must be folders:" \
			"make paper VIDEOS=/folder/of/videos VID4=/folder/of/vid4 GPUS=8"; exit 2; }

paper: paper-asked setup
	$(BIN)/python -m pipelines.synthesize --runner=DirectRunner --input "$(VIDEOS)" \
		--output $(PAPER)/ranks --recipe cavsr-continuous $(PAPER_LIST)
	$(BIN)/python -m pipelines.synthesize --runner=DirectRunner --input "$(VIDEOS)" \
		--output $(PAPER)/videos --recipe cavsr-444 $(PAPER_LIST)
	$(BIN)/python -m training.pretrain $(PAPER)/ranks --config $(PAPER_CONFIG) --run $(PAPER)/encoder \
		--steps $(PAPER_PRETRAIN_STEPS) \
		$(call resumed,$(PAPER)/encoder/training_state.safetensors)
	$(BIN)/torchrun --nproc-per-node $(GPUS) -m -- training.train $(PAPER)/videos \
		--config $(PAPER_CONFIG) --encoder $(PAPER)/encoder --freeze-encoder --run $(PAPER)/run \
		--steps $(PAPER_STEPS) $(PAPER_OPTIONS) $(call resumed,$(PAPER)/run/training_state.pt)
	$(BIN)/python -m training.evaluate --data "$(VID4)" --crf none 15 25 35 \
		--pixel-format yuv444p --weights $(PAPER)/run --output $(PAPER)/evaluation

test: lint
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	$(BIN)/python -m docs.reference

benchmark: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
