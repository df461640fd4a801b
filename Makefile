# Two commands: `make run` and `make test`. Each sets up what it needs first. TORCH=cpu installs
# PyTorch's build for CPUs, from PyTorch's own index; other builds have other names there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stamps of what is installed: enough to run the bot, and all that its developers use.
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
PROJECT := pyproject.toml setup.py
TORCH ?=
NVIDIA := /proc/driver/nvidia
PINNED_TORCH := requirements/torch.txt
TORCH_INDEX := $(if $(TORCH),--index-url https://download.pytorch.org/whl/$(TORCH))
HASHED := $(BIN)/pip install --require-hashes --only-binary :all:
# As many processes as cores, so one thread in each: more would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

HAS_TORCH := $(BIN)/pip show --quiet torch 2>/dev/null
# Before anything is downloaded.
WARN_OF_CUDA := if [ -z "$(TORCH)" ] && [ "$$(uname -s)" = Linux ] && ! $(HAS_TORCH) \
	&& [ ! -e $(NVIDIA) ] && ! command -v nvidia-smi >/dev/null; then \
	echo "No NVIDIA driver here: unless pip is set up otherwise, PyTorch comes with several GB for" \
		"NVIDIA GPUs. Ctrl-C, then \`make $(MAKECMDGOALS) TORCH=cpu\`, installs the build for CPUs."; fi

# $(call install,FILE): the pins in FILE, PyTorch, the project. pip checks the hashes of all
# packages of a call or of none, hence three calls; --only-binary and --no-build-isolation,
# because a build would fetch its own, unpinned tools. An installed PyTorch is kept if
# pyproject.toml allows its version, which `pip check` verifies.
define install
@$(WARN_OF_CUDA)
@echo "Installing the pinned packages"
@$(HASHED) --requirement $(1)
@if $(HAS_TORCH); then echo "Keeping the PyTorch that is in $(VENV)"; else \
	echo "Installing PyTorch, the largest download"; \
	$(BIN)/pip install $(TORCH_INDEX) --requirement $(PINNED_TORCH); fi
@echo "Installing the bot"
@$(BIN)/pip install --no-build-isolation --no-deps --editable .
@$(BIN)/pip check
@echo "Compiling the decoder, about 20 s"
@$(BIN)/noskgpt --prompt ROMEO: --max-chars 2 --real-words --cast --echo >/dev/null
endef

# The newest versions that pyproject.toml allows, for each platform, the build backend's included.
PIN := $(BIN)/python -c 'import tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
	$(BIN)/uv pip compile --quiet --config-file requirements/uv.toml --upgrade --universal \
	--python-version 3.11 --fork-strategy fewest --generate-hashes --no-annotate \
	--custom-compile-command "make pins" --constraint $(PINNED_TORCH) --no-emit-package torch \
	pyproject.toml -

.PHONY: run install test test-fast test-long lint format catalogues pictures pins audit soak

run: $(RUN)
	@echo "Starting the bot"
	@$(BIN)/python -m bot --or-rehearse

install: $(RUN)

test: lint
	$(PYTEST) -m "not long"

# What `make test` leaves out, because it has to end within 15 minutes: see tests/conftest.py.
test-long: $(DEV)
	$(PYTEST) -m long

# All but training, browser, wheel and notebook: see tests/conftest.py.
test-fast: $(DEV)
	$(PYTEST) -m "not slow"

# Kills, faults, load and a million turns, for half an hour: see benchmarks/soak.py.
soak: $(DEV)
	$(BIN)/python -m benchmarks.soak

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Brings locales/ in step with the texts of the bot. LANGUAGE=it begins a catalogue.
catalogues: $(DEV)
	$(BIN)/python -m locales $(LANGUAGE)

pictures: $(DEV)
	$(BIN)/python -m docs.pictures

# Looks the pins up among the known vulnerabilities, for which it needs the internet.
audit: $(DEV)
	@$(BIN)/python -m requirements.audit

# Renews requirements/*.txt; `make test` before they are committed. PyTorch's version
# is changed by hand, in requirements/torch.txt.
pins: | $(BIN)/uv
	$(PIN) --extra dev --output-file requirements/dev.txt
	$(PIN) --extra rehearsal --constraint requirements/dev.txt --output-file requirements/run.txt
	$(PIN) --constraint requirements/dev.txt --output-file requirements/bot.txt

# Not by way of $(DEV): `pip check` fails there as long as a new dependency has no pin.
$(BIN)/uv: | $(VENV)
	@$(HASHED) --requirement requirements/dev.txt

$(RUN): $(PROJECT) $(PINNED_TORCH) requirements/run.txt | $(VENV)
	$(call install,requirements/run.txt)
	@touch $@

$(DEV): $(PROJECT) $(PINNED_TORCH) requirements/dev.txt | $(VENV)
	$(call install,requirements/dev.txt)
	@touch $@ $(RUN)

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Creating the environment $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
