# make demo | make test | make lint: each builds .venv first when it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# pip settings such as a local wheel folder are passed on to uv, which reads none of them.
FIND_LINKS := $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help env demo test lint clean

help:
	@echo "make demo   annotate synthetic video into demo/dataset and demo/dataset/report.html"
	@echo "make test   the whole test suite"
	@echo "make lint   ruff, mypy, import directions"
	@echo "make env    only build $(VENV)"
	@echo "make clean  remove $(VENV) and the demo"

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found " + sys.version.split()[0] + "; set PYTHON=")'
	@echo "setting up $(VENV) (once)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null; then \
		uv pip install -q --python $(BIN)/python $(if $(FIND_LINKS),--find-links "$(FIND_LINKS)") -c constraints.txt -e '.[dev]'; \
	else \
		$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

demo: env
	@$(BIN)/python -m pipelines.annotate src=synthetic out=demo/dataset source.rig=walking

test: env
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: env
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

clean:
	rm -rf $(VENV) demo
