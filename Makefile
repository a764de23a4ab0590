# make help: what can be done.  make demo: set up and generate a volume.  make test: set up and run the tests.  All work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BUNDLE := bundles/med_ddpm_3d
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

ROWS ?= *

.PHONY: help demo test simulated-gpu integration lint format tables numbers bench release clean

help:
	@$(PYTHON) -m common

# The filter hides MONAI's notice that configs are code; these are ours.
demo: $(VENV)/.installed
	$(BIN)/python -W "ignore:parsing config_file:UserWarning" -m monai.bundle run --config_file $(BUNDLE)/configs/inference.json --output_dir output

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# The bundles' tests on a GPU that is simulated on the CPU: errors of tensors on two devices show, those of kernels do not.
simulated-gpu: $(VENV)/.installed-dev
	TEST_DEVICE=cuda OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p tests.simulated_gpu -n 2 --dist loadfile tests/bundles

# MONAI Label and MONAI Deploy, each in an environment of its own (.venv-label, .venv-deploy), asked from the one for development.
# Then the tests that ask other readers, validators and runtimes, and skip in make test.
OTHERS := tests/data/test_bids.py tests/data/test_dicom_volumes.py tests/networks/test_runtimes.py tests/studies/test_croissant.py
integration: $(VENV)/.installed-dev $(VENV)-label/.installed $(VENV)-deploy/.installed
	$(PIP) requests -r requirements-runtimes.txt $$(grep -E '^(bids|itk|mlcroissant|playwright|simpleitk)' requirements-integration.txt)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m integration tests/integration
	PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(OTHERS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Tables of all pages from bundles/*/docs/numbers.json.  make numbers BUNDLE=med_cdiff_mri_inpaint ROWS=fast measures again and compares.
tables: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.published_numbers tables

numbers: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.published_numbers rerun $(notdir $(BUNDLE)) --rows "$(ROWS)"

# Sampling with the shipped networks: default, few steps, runtimes (requirements-runtimes.txt), MONAI's inferer; ratios first.
bench: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m benchmarks.sampling

# URL: where dist/ will be served from; without it model_info.json names the files alone.
release: $(VENV)/.installed
	$(BIN)/python -m common.bundle.release --out dist --url "$(URL)" bundles/*

# torch first and pinned: a later package must not pull another build of it.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' requirements.txt)"
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-metrics.txt requirements-dicom.txt requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@

$(VENV)-%/.installed: requirements-%.txt
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $<)"
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

clean:
	rm -rf $(VENV) output dist
