# One word for each act: `make acceptance` and `make test` do all set-up on a fresh machine.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
TOOLS := $(VENV)/tools
# What pip takes on an aarch64 host with glibc 2.28; it does not add the older tags by itself.
AARCH64 := $(addsuffix _aarch64,manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_17 manylinux2014)
# Many container images set it; without bytecode, each of the hundreds of child processes compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: acceptance test lint coverage browser smoke emulate zoo farm farm-faults aarch64 without-decord lock audit sbom mutants clean

acceptance: $(READY)
	$(BIN)/pytest -n 2 --signoff -m cpu acceptance/

test: lint coverage smoke

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The tests of the sign-off page need Chromium; without it they skip, and say so.
browser:
	@if command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get install --yes --quiet --no-install-recommends chromium \
	  || { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends chromium; } \
	  || echo "NO CHROMIUM: it could not be installed; the tests of the sign-off page will skip"; \
	else echo "NO CHROMIUM: install it (Debian: apt-get install chromium); the tests of the sign-off page will skip"; fi

coverage: $(READY) browser
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n auto -m "not slow" tests
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

smoke: $(READY)
	$(BIN)/pytest -m "cpu and smoke" acceptance/

# The Ascend path on an emulator of atc, npu-smi and ais_bench, and a T4's; see docs/ascend.md.
emulate: $(READY)
	PYTEST=$(BIN)/pytest EMULATOR_PYTHON=$(abspath $(BIN))/python tests/emulator/matrix

# Three nodes of a Ray cluster on this machine, with emulated chips; see docs/farm.md.
farm: $(READY)
	BIN=$(BIN) tests/farm/matrix

# What may fail on a farm: processes, hosts and chips are killed, stopped and broken.
farm-faults: $(READY)
	$(BIN)/pytest -q -m slow tests/farm

# One configuration of each family of mmaction2's model zoo; all of it: python -m benchmarks.zoo --results zoo.jsonl
zoo: $(READY)
	rm -f $(VENV)/zoo.jsonl
	$(BIN)/python -m benchmarks.zoo --sample --results $(VENV)/zoo.jsonl

# What an x86_64 host can show of aarch64: each package of the lock has a wheel for it (mmcv-full is built from source),
# and clips decode without decord.
aarch64: $(READY) without-decord
	grep -v -e '^#' -e '^mmcv-full==' -e 'platform_machine == "x86_64"' requirements.in > $(VENV)/aarch64.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --dry-run --ignore-installed --no-deps --only-binary=:all: \
	  --target $(VENV)/aarch64 --python-version 3.11 $(addprefix --platform=,$(AARCH64)) --requirement $(VENV)/aarch64.lock

without-decord: $(READY)
	PYTHONPATH=$(abspath tests/without_decord) $(BIN)/pytest -q -n auto -m "not slow" tests

# Everything but torch is installed exactly as locked, each file by its sha256: mmaction2 and mmcv-full would otherwise
# pull in an OpenCV that needs a display's libraries. mmcv-full is built in isolation, without torch, and therefore as
# pure Python, in seconds. torch comes last, with what only its own build needs (a CUDA build has many packages).
$(READY): requirements.in requirements.lock build-constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "pip==26.3"
	$(BIN)/pip install --quiet --no-deps --require-hashes --build-constraint build-constraints.txt \
	  --requirement requirements.lock
	$(BIN)/pip install --quiet --constraint requirements.in torch
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Tools about the packages, in an environment of their own.
$(TOOLS):
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet --disable-pip-version-check uv==0.13.9 pip-audit==2.10.1 cyclonedx-bom==7.5.0

lock: $(TOOLS)
	$(TOOLS)/bin/uv pip compile requirements.in --generate-hashes --no-deps --universal --python-version 3.11 \
	  --no-emit-package torch --no-annotate --quiet --custom-compile-command "make lock" --output-file requirements.lock

# Known vulnerabilities of every package; one that cannot be looked up fails, too. audit-ignored.txt explains the rest.
audit: $(TOOLS)
	$(TOOLS)/bin/pip-audit --strict --disable-pip --no-deps --requirement requirements.in \
	  $$(sed -E 's/ *#.*//; /^$$/d; s/^/--ignore-vuln /' audit-ignored.txt)

# What is installed, in CycloneDX.
sbom: $(READY) $(TOOLS)
	$(TOOLS)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
	  --output-file sbom.cdx.json $(BIN)/python

# Mutants of the deciding folders: so many of each, drawn by the seed; SAMPLE=9999 tries all of them, in hours. mutmut
# imports the suite, so it runs in its environment; [tool.mutmut] says which tests it runs.
SAMPLE ?= 60
SEED ?= 1
FOLDERS ?= judge measure decide contract nightly
mutants: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade --target $(VENV)/mutmut mutmut==3.8.1
	PYTHONPATH=$(abspath $(VENV)/mutmut) $(BIN)/python benchmarks/mutants.py --sample $(SAMPLE) --seed $(SEED) $(FOLDERS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage*
