# make demo | make test | make lint: each builds .venv first when it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VIPE := .venv-vipe
STAMP := $(VENV)/.ready
# pip settings such as a local wheel folder are passed on to uv, which reads none of them.
FIND_LINKS := $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help env demo test lint vipe clean

help:
	@echo "make demo   annotate synthetic video into demo/dataset and demo/dataset/report.html"
	@echo "make test   the whole test suite"
	@echo "make lint   ruff, mypy, import directions"
	@echo "make env    only build $(VENV)"
	@echo "make vipe   environment of ViPE, Pi3X and MoGe in $(VIPE) (CUDA and nvcc needed)"
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

vipe: $(VIPE)/.ready

# In an environment of its own: it is built against a CUDA torch and pins what ours may not.
$(VIPE)/.ready:
	@command -v nvcc >/dev/null || { echo "make vipe: nvcc is not found; install the CUDA toolkit of your torch"; exit 1; }
	@rm -rf $(VIPE)
	@$(PYTHON) -m venv $(VIPE)
	@$(VIPE)/bin/python -m pip install -q --disable-pip-version-check "torch==2.13.*" torchvision ninja "setuptools>=77" wheel
	@$(VIPE)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is None and "make vipe: this torch has no CUDA, which ViPE is built against")'
	@$(VIPE)/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation "nvidia-vipe==1.2.*"
	@$(VIPE)/bin/python -m pip install -q --disable-pip-version-check plyfile git+https://github.com/yyfz/Pi3 git+https://github.com/microsoft/MoGe
	@touch $@

clean:
	rm -rf $(VENV) demo
