# Two commands: `make run` and `make test`. Each sets up what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Stamps of what is installed: enough to run the bot, and all that its developers use.
RUN := $(VENV)/.run
DEV := $(VENV)/.dev
# So that nobody who asks the bard for something waits for a compiler.
COMPILE := echo "Compiling the decoder." && \
	$(BIN)/noskgpt --prompt ROMEO: --max-chars 2 --real-words >/dev/null

.PHONY: run test lint format pictures

run: $(RUN)
	@$(BIN)/python -m bot --or-rehearse

# As many processes as cores, so one thread in each: more would wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pictures: $(DEV)
	$(BIN)/python -m docs.pictures

$(RUN): pyproject.toml constraints.txt | $(VENV)
	@echo "Installing what the bot needs. PyTorch is most of it."
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[rehearsal]'
	@$(COMPILE)
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(VENV)
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(COMPILE)
	@touch $@ $(RUN)

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
