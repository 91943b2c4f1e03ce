# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
# The same everywhere: what is type-checked and tested must not depend on who runs it.
EXTRAS := diffusers,onnx,nudenet,minilm,japanese,openai,calibrate,evaluate,inspect,ray,dev
PYTEST_FLAGS ?=

# Under CI everything but the GPU tests runs; elsewhere the quick tests run.
ifeq ($(CI),true)
MARKERS ?= -m "not gpu"
endif

.PHONY: setup demo check test format clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: setup
	$(BIN)/tadasu demo --out demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/pytest $(MARKERS) $(PYTEST_FLAGS)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf demo build dist .mypy_cache .ruff_cache .pytest_cache
