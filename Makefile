# Two commands: `make run` and `make test`. Each sets up what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stamps of what is installed: enough to run the bot, and all that its developers use.
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
PROJECT := pyproject.toml setup.py
TORCH := requirements/torch.txt
HASHED := $(BIN)/pip install --require-hashes --only-binary :all:
# As many processes as cores, so one thread in each: more would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

# $(call install,FILE): the pins in FILE, PyTorch, the project. pip checks the hashes of all
# packages of a call or of none, hence three calls; --only-binary and --no-build-isolation,
# because a build would fetch its own, unpinned tools. An installed PyTorch is kept if
# pyproject.toml allows its version, which `pip check` verifies.
define install
@$(HASHED) --requirement $(1)
@$(BIN)/pip show --quiet torch 2>/dev/null || $(BIN)/pip install --requirement $(TORCH)
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
	--custom-compile-command "make pins" --constraint $(TORCH) --no-emit-package torch \
	pyproject.toml -

.PHONY: run test test-fast lint format pictures pins soak

run: $(RUN)
	@$(BIN)/python -m bot --or-rehearse

test: lint
	$(PYTEST)

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

pictures: $(DEV)
	$(BIN)/python -m docs.pictures

# Renews requirements/run.txt and dev.txt; `make test` before they are committed. PyTorch's version
# is changed by hand, in requirements/torch.txt.
pins: | $(BIN)/uv
	$(PIN) --extra dev --output-file requirements/dev.txt
	$(PIN) --extra rehearsal --constraint requirements/dev.txt --output-file requirements/run.txt

# Not by way of $(DEV): `pip check` fails there as long as a new dependency has no pin.
$(BIN)/uv: | $(VENV)
	@$(HASHED) --requirement requirements/dev.txt

$(RUN): $(PROJECT) $(TORCH) requirements/run.txt | $(VENV)
	@echo "Installing what the bot needs. PyTorch is most of it."
	$(call install,requirements/run.txt)
	@touch $@

$(DEV): $(PROJECT) $(TORCH) requirements/dev.txt | $(VENV)
	@echo "Installing what the bot and its developers need. PyTorch is most of it."
	$(call install,requirements/dev.txt)
	@touch $@ $(RUN)

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
