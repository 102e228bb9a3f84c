# `make up` and `make test` set up what is missing by themselves; `make` alone says what there is.
PYTHON ?= python3.11
BIN := .venv/bin
DEFAULT_VARIANT := convnext_base_w-laion2b_s13b_b82k_augreg
.DEFAULT_GOAL := help
.PHONY: help setup up load test test-long tools test-clients test-compose test-helm lint docs bench demo clean

help:
	@echo "make up      export a model and serve it: gateway and page 8080, Triton 8000 to 8002, on loopback, until Ctrl-C"
	@echo "             VARIANT=NAME serves that model, e.g. $(DEFAULT_VARIANT) (default: demo)"
	@echo "             VARIANTS=\"NAME NAME\" serves several behind one gateway, a Triton each"
	@echo "make load    Locust against what is up, with limits it must hold; SCENARIO=NAME (default: smoke)"
	@echo "make test    lint, types and all tests that are not long; SYSTEM_PACKAGES=0 installs no system packages for them"
	@echo "make test-long  runs what make test leaves out because it takes long, one after the other"
	@echo "make test-clients  runs other people's clients, unchanged, against a real server; wants node beside Python"
	@echo "make test-compose  builds the images, starts the compose files and tests them; needs a Docker engine"
	@echo "make test-helm  renders the Helm chart and tests its objects; needs no cluster, and the tools of make test"
	@echo "make docs    the documentation as a site, into build/site"
	@echo "make bench   served against bare, and gateway against gRPC, into build/bench.json"
	@echo "make demo    train the demo checkpoint again, in about half an hour on 2 cores"
	@echo "make setup   the Python environment in .venv, which the others make by themselves"
	@echo "make clean   remove .venv and build"

setup: .venv/.installed

.venv/.installed: requirements.txt $(wildcard requirements/*.txt) constraints.txt client/pyproject.toml server/pyproject.toml scripts/setup
	PYTHON="$(PYTHON)" scripts/setup
	@touch $@

# Without a VARIANT: the demo checkpoint of this repository, with its label set `scenes`.
VARIANT ?= demo
# Several at once, each with a Triton of its own: make up VARIANTS="demo ViT-B-32/openai"
VARIANTS ?= $(VARIANT)
# Options of `tritonclip-server gateway`: make up GATEWAY_FLAGS="--alias '*'"
export GATEWAY_FLAGS
# The folder of a variant's served repository, and a line of a recipe that publishes it.
served = build/models/$(subst /,-,$(1))

define export
	$(BIN)/tritonclip-server export $(1) --host cpu --into $(call served,$(1)) --if-changed

endef

up: setup
	$(foreach variant,$(VARIANTS),$(call export,$(variant)))
ifneq ($(filter demo,$(VARIANTS)),)
	$(BIN)/tritonclip-server labels scenes --labels samples/scenes/classes.txt --repository $(call served,demo) --if-changed
endif
	@exec $(BIN)/tritonclip-server serve $(foreach variant,$(VARIANTS),$(call served,$(variant))) --gateway-port 8080 --greet --sample-index build/indexes/samples $${GATEWAY_FLAGS:+"--gateway-flags=$$GATEWAY_FLAGS"} $(SERVE_FLAGS)

# A scenario of load/users/scenarios.toml, judged by load/users/thresholds.toml; an error where a limit is missed.
SCENARIO ?= smoke

load: setup
	$(BIN)/python -m locust -f load/locustfile.py --headless --only-summary --scenario $(SCENARIO) $(LOAD_FLAGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy server/tritonclip_server load examples tests client/tritonclip scripts/gateway_reference.py deploy/docker/triton_health.py
	MYPYPATH=server/tritonclip_server/embedded $(BIN)/mypy --scripts-are-modules deploy/docker/start_triton
	@# Triton's Python models are one `model.py` each, so mypy takes them one by one.
	@set -e; for model in model_repository/*/1 server/tritonclip_server/export/overlay/*/1; do \
		if [ -f $$model/model.py ]; then $(BIN)/mypy $$model/*.py; fi; done

# The code is read while what the tests need is fetched.
test: setup
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint tools
	scripts/run-tests $(TESTS)

tools:
	@scripts/setup-tests

# What `make test` leaves out: longer runs, and further cases of what it has.
test-long: setup tools
	$(BIN)/python -m pytest -m long

# Other people's clients, in an environment of their own.
build/clients/.installed: .venv/.installed requirements/clients.lock tests/programs/package-lock.json scripts/setup-clients
	scripts/setup-clients
	@touch $@

test-clients: build/clients/.installed
	$(BIN)/python -m pytest tests/programs

test-compose: setup
	scripts/docker-engine $(BIN)/python -m pytest tests/compose

# helm and the schemas of Kubernetes, in an environment of their own.
build/helm/.installed: .venv/.installed requirements/helm.lock scripts/setup-helm
	scripts/setup-helm
	@touch $@

test-helm: build/helm/.installed
	$(BIN)/python -m pytest tests/helm

# The site has an environment of its own; the gateway itself describes its API.
build/docs/.installed: .venv/.installed requirements/docs.lock
	$(BIN)/python -m venv --without-pip build/docs/python
	$(BIN)/python -m uv pip sync --quiet --python build/docs/python/bin/python requirements/docs.lock
	@touch $@

docs: build/docs/.installed
	rm -rf build/docs/pages && cp -r docs build/docs/pages
	$(BIN)/python -m scripts.gateway_reference > build/docs/pages/reference/gateway-api.md
	build/docs/python/bin/zensical build --strict --clean

bench: setup
	$(BIN)/python -m load.capacity bench

demo: setup
	$(BIN)/python -m examples.demo_model train

clean:
	rm -rf .venv build .cache
