# `make demo` and `make test` do all the set-up themselves; they need Python 3.11 to 3.13 and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MNIST := $(if $(HARNESS_DATA_DIR),,(HARNESS_DATA_DIR is not set: tests that need all of MNIST are skipped))

.PHONY: demo test check bench lock clean

demo: $(VENV)/.run
	$(BIN)/harness run suites/batch_size.py

test: $(VENV)/.dev
	@echo "running the tests $(MNIST)"
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff format --check harness suites tests
	$(BIN)/ruff check harness suites tests
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only

# Byte code is compiled here, whatever PYTHONDONTWRITEBYTECODE says: importing TensorFlow costs 20 s without it, 4 with.
$(VENV)/.run: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q harness
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --require-hashes -r requirements-dev.lock
	touch $@

# Pinned versions with hashes, and no index or file address. Needs uv.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links
lock:
	$(LOCK) pyproject.toml --group build -o requirements.lock
	$(LOCK) pyproject.toml --group build --group dev --extra peers --extra jax --extra examples --extra tensorboard -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist *.egg-info
