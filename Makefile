# make demo: set up and run the main job at the demo scale. make test: set up and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test setup clean

setup: $(VENV)/ready

# The core and the tests share one environment; it is made anew when the pins change.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,docs]'
	touch $@

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

# In the order of their names: those on SLURM, which take longest, begin first.
test: setup $(VENV)-crate/ready
	python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

clean:
	rm -rf $(VENV) $(VENV)-crate
