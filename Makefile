# Everything runs in .venv, which `make setup` makes from pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
DEMO := outputs/demo

.PHONY: setup demo test bench lint format chromium clean

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

# two processes of one thread each: several threads in each would wait for each other
test: setup chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

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
