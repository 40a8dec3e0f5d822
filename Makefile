# Two commands matter: `make run` and `make test`. Each does all the set-up it needs, once.

SHELL := bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test lab notebooks site bench docbert soak lint pins

# The tested interpreter first. `make PYTHON=/path/to/python3.12 run` picks another.
FITS := -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3 python; do \
	$$name $(FITS) && echo $$name && break; done)

VENV := .venv
IN_VENV := $(VENV)/bin/python
LOG := build/setup.log
TORCH := $(shell grep '^torch==' constraints.txt)

# Set-up is repeated when one of these changes, or when the checkout moves: an editable install
# goes on pointing to the old place.
STATE := $(shell (echo '$(CURDIR)'; cat pyproject.toml constraints.txt) | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(STATE)
READY_TO_TEST := $(VENV)/.ready-to-test-$(STATE)

# One step of the set-up: $(1) says what it does, $(2) does it. pip's chatter goes to the log; of
# it the terminal sees the large downloads, and after a failure the reason, in one line.
define step
	@mkdir -p build && echo '$(1)'; : > $(LOG); ( $(2) ) 2>&1 | tee -a $(LOG) \
	| grep --line-buffered -E '^ *Downloading .* [MG]B\)' \
	| sed 's/^ */    /'; status=$${PIPESTATUS[0]}; [ $$status = 0 ] || { \
	echo "set-up failed at: $(1): $$( (grep -E 'ERROR|rror:' $(LOG) || tail -n 1 $(LOG)) \
	| head -n 1) (all of it: $(LOG))" >&2; exit 1; }
endef

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## .venv with what constraints.txt pins; skipped when nothing changed

run: $(READY) ## the main job: chapter 00 into build/00_quickstart, and what it measured
	@$(IN_VENV) -m cookbook.cli run 00 --profile laptop -o build/00_quickstart

# One thread each: with two on a busy machine a tiny model is 40 times slower.
# The quick tests in two processes, then what starts processes of its own; 5: none was selected.
test: $(READY_TO_TEST) ## everything: unit tests, doctests, the house, every notebook, the kills
	@export OMP_NUM_THREADS=1; $(IN_VENV) -m pytest -q $(ARGS); quick=$$?; \
	[ $$quick = 0 ] || [ $$quick = 5 ] || exit $$quick; \
	$(IN_VENV) -m pytest -q -m '(notebook or ranks or kills) and not soak' $(ARGS); long=$$?; \
	[ $$long = 5 ] && exit $$quick || exit $$long

lab: $(READY) ## JupyterLab on the notebooks
	@$(IN_VENV) -m jupyterlab notebooks

notebooks: $(READY) ## execute chapters in place, laptop profile: all, or `make notebooks ONLY=03`
	@$(IN_VENV) notebooks/execute.py $(ONLY)

site: $(READY) ## every notebook as HTML into build/site
	@$(IN_VENV) -m nbconvert --to html --output-dir build/site notebooks/*.ipynb

bench: $(READY_TO_TEST) ## what is measured against peers: all, or `make bench ONLY=pretraining_quality`
	@for file in $(if $(ONLY),benchmarks/$(ONLY).py,$(sort $(wildcard benchmarks/*.py))); do \
	echo "$$file"; $(IN_VENV) "$$file" || exit 1; done

docbert: $(READY) ## pretrain the checkpoint that ships, data/docbert, anew
	@$(IN_VENV) -m cookbook.training.docbert $(ARGS)

soak: $(READY_TO_TEST) ## what takes too long for `make test`: a hundred kills, and the like
	@OMP_NUM_THREADS=1 $(IN_VENV) -m pytest -q -m soak $(ARGS)

lint: $(READY_TO_TEST) ## ruff: the linter and the formatter's opinion
	@$(IN_VENV) -m ruff check . && $(IN_VENV) -m ruff format --check .

pins: ## write into constraints.txt what is installed in .venv: after testing it
	@mkdir -p build && echo '# What was tested; `make pins` writes it.' > build/pins
	@$(IN_VENV) -m pip freeze --all --exclude-editable --exclude cookbook --exclude pip \
	| sed 's/+[a-z0-9.]*$$//' | grep -E '^[A-Za-z0-9._-]+==' >> build/pins
	@mv build/pins constraints.txt

$(IN_VENV):
	@'$(PYTHON)' $(FITS) || { echo 'set-up failed: $(or $(PYTHON),what is installed) is not' \
	'Python 3.11, 3.12 or 3.13: name one, as in make PYTHON=/path/to/python3.12 run' >&2; exit 1; }
	$(call step,[1/3] create $(VENV) with $(PYTHON),$(PYTHON) -m venv --clear $(VENV))

$(READY): | $(IN_VENV)
	$(call step,[2/3] install $(TORCH),$(IN_VENV) -m pip install -c constraints.txt $(TORCH))
	$(call step,[3/3] install the cookbook,$(IN_VENV) -m pip install -c constraints.txt -e .)
	@rm -f $(VENV)/.ready-* && touch $@

$(READY_TO_TEST): | $(READY)
	$(call step,[+] install what the tests need,$(IN_VENV) -m pip install -c constraints.txt -e '.[test]')
	@touch $@
