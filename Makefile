# make demo: set up and run the main job at the demo scale. make test: set up and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test setup lock clean

setup: $(VENV)/ready

# The core and the tests share one environment; it is brought up to date when the pins change. TORCH_INDEX, where it is
# given, is the address of an index with other builds of torch, such as those for CPUs alone. Those are not in the lock
# file. So torch and torchvision come from there by their versions, and all else but CUDA by the lock file's hashes.
$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
ifdef TORCH_INDEX
	$(PIP) install --no-deps --index-url $(TORCH_INDEX) $$(grep -oE '^torch(vision)?==[^ ]+' requirements.lock)
	awk '/^[a-z]/ {cuda = /^(torch|torchvision|triton|cuda-|nvidia-)/} !cuda' requirements.lock > $(VENV)/rest.lock
	$(PIP) install --require-hashes --requirement $(VENV)/rest.lock
else
	$(PIP) install --require-hashes --requirement requirements.lock
endif
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

# Every package of core, tests and docs with the hashes of its files, for all platforms. Versions that the file has stay
# as they are where the pins allow it. Pages of the docs need Python 3.11.5.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(VENV)-lock/bin/uv pip compile --quiet pyproject.toml --extra test --extra docs --universal \
	  --python-version 3.11.5 --generate-hashes --annotation-style line --custom-compile-command 'make lock' \
	  --output-file requirements.lock

demo: setup
	snakemake --cores 2 --config scale=demo
	python -m ambient audit results/demo
	python -m ambient show results/demo/table2a.csv
	@echo "The result as one page, to be read or sent: results/demo/report.html"

# The validator of RO-Crates has dependencies of its own that the product must not get; rocrate 0.9.0, for the one
# file in it that the validator would fetch from the web: the JSON-LD context of RO-Crate 1.1.
$(VENV)-crate/ready: Makefile
	$(PYTHON) -m venv $(VENV)-crate
	$(VENV)-crate/bin/pip install --quiet --disable-pip-version-check roc-validator==0.13.0
	$(VENV)-crate/bin/pip install --quiet --disable-pip-version-check --no-deps rocrate==0.9.0
	touch $@

# Files that take minutes begin first (tests/conftest.py). Each process has one thread: with more of them than cores, threads
# that wait for each other take the time of those that work.
test: setup $(VENV)-crate/ready
	OMP_NUM_THREADS=1 python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

clean:
	rm -rf $(VENV) $(VENV)-crate $(VENV)-lock
