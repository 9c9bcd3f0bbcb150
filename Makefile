# Everything runs in .venv, which `make setup` makes from pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
DEMO := outputs/demo

.PHONY: setup demo rounds test test-all bench lint format chromium clean

setup: .venv/installed

# llama-cpp-python has no wheel and compiles here for some minutes: it needs a C++ compiler and cmake
.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --progress-bar off -e '.[dev]'
	touch $@

# problems → conversations → pairs → DPO → evaluation, on the embedded model
demo: setup
	$(BIN)/python generate.py experiment=demo_data
	$(BIN)/python train.py experiment=demo
	$(BIN)/python evaluate.py adapter=$(DEMO)/adapter

# a second round on top of the demo's tutor: its own replies, the best against the worst; base and both rounds compared
rounds: setup
	test -d $(DEMO)/adapter || $(MAKE) demo
	$(BIN)/python train.py experiment=next_round adapter=$(DEMO)/adapter \
	  dataset.n=4 dataset.limit=80 dataset.sampling.max_new_tokens=40 dpo.max_steps=8 dpo.learning_rate=2e-4
	$(BIN)/python evaluate.py adapter=$(DEMO)/next_round/adapter

# two processes of one thread each: several threads in each would wait for each other
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup chromium
	$(PYTEST) -m "not slow"

# with what takes long and guards little
test-all: setup chromium
	$(PYTEST)

# every file in benchmarks/, one table; nothing else should run meanwhile
bench: setup
	$(BIN)/python benchmarks/run_all.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the tests open the report in a headless Chromium
chromium: setup
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq chromium; } \
	  || $(BIN)/playwright install chromium

clean:
	rm -rf outputs/* .venv
