# Everything a developer or a user of this repository runs. Needs Python 3.11-3.13, git and make.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# The image of pods, worker and server, and what builds it.
IMAGE ?= kaleidoscope:dev
BUILDER ?= $(firstword $(foreach name,docker podman buildah,$(if $(shell command -v $(name)),$(name))))
comma := ,
# What pytest is given beside its settings in pyproject.toml: make test ARGS="-k tree -x"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install test demo bench bench-quick bench-deployment bench-dispatch pictures pythons lint types imports \
	docs docs-serve screenshots check deploy \
	image kubernetes prefect s3 cluster-up cluster-check cluster-down constraints clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.project ## Make .venv with the pinned dependencies and the project.

# Tests with Prefect's servers use all CPUs and wait for each other's answers: one after another.
SERIAL_TESTS := tests/browser tests/cluster tests/flows

test: install $(VENV)/.torch ## Run the whole test suite; with ARGS="-k tree", pytest alone with these.
ifeq ($(ARGS),)
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=8 $(SERIAL_TESTS:%=--ignore=%)
	$(BIN)/python -m pytest $(SERIAL_TESTS)
else
	$(BIN)/python -m pytest $(ARGS)
endif

demo: install ## Run everything on this machine; KEEP=1 leaves the servers up until Ctrl-C.
	@KEEP=$(KEEP) $(BIN)/python -m tools.demo

pictures: install ## Draw the pictures of the README again.
	$(BIN)/python -m tools.pictures

pythons: install ## Make and replay the same images with other Pythons; PYTHONS="/path/to/python3.13".
	PYTHONS="$(PYTHONS)" $(BIN)/python -m tools.pythons

bench: install ## Measure speed, memory and scale beside others; writes docs/benchmarks.
	$(BIN)/python -m benchmarks

bench-quick: install ## Measure the main ratios in about three minutes.
	$(BIN)/python -m benchmarks --quick

bench-deployment: install ## Measure a run of the deployment beside the library alone; takes ten minutes.
	$(BIN)/python -m benchmarks.deployment

bench-dispatch: install ## Measure a run of 2,000 simulated shards; needs PostgreSQL, takes ten minutes.
	nice $(BIN)/python -m benchmarks.dispatch

lint: install ## Check style and format.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install $(VENV)/.torch ## Check types.
	$(BIN)/mypy

docs: install ## Build the documentation into build/site; a dead link or a missing page is an error.
	$(BIN)/mkdocs build --strict --quiet

docs-serve: install ## Show the documentation at http://127.0.0.1:8000 while it is edited.
	$(BIN)/mkdocs serve

screenshots: install $(VENV)/.torch ## Take the pictures of the Prefect UI in the documentation again.
	SCREENSHOTS=docs/images/ui $(BIN)/python -m pytest tests/browser

imports: install ## Check that no layer imports a higher one.
	$(BIN)/lint-imports

check: lint types imports docs test ## Everything that has to pass before a commit.

deploy: install ## Make work pools and deployments on your Prefect server; SHARDS=4 bounds the shards.
	$(BIN)/python -m deployments.work_pools $(if $(SHARDS),--shards $(SHARDS))

image: ## Build the image IMAGE with docker, podman or buildah; BASE= another slim Python, PLATFORM= of nodes.
	@test -n "$(BUILDER)" || { echo "make image needs docker, podman or buildah" >&2; exit 1; }
	$(BUILDER) build --file deployments/Dockerfile --tag $(IMAGE) \
		$(if $(PLATFORM),--platform $(PLATFORM)) \
		$(if $(BASE),--build-arg BASE=$(BASE)) $(if $(PIP_CONF),--secret id=pip$(comma)src=$(PIP_CONF)) \
		--build-arg REVISION=$$(git rev-parse HEAD) .

kubernetes: install ## After kubectl apply -k: Secrets, pool, deployments; SHARDS=40 bounds the pods, 0 lifts it.
	$(BIN)/python -m deployments.kubernetes up $(if $(SHARDS),--shards $(SHARDS)) \
		$(if $(PARENT_NODES),--parent-nodes $(PARENT_NODES)) $(if $(SHARD_NODES),--shard-nodes $(SHARD_NODES))

prefect: install ## Run prefect ARGS against the server in the cluster.
	$(BIN)/python -m deployments.kubernetes exec $(BIN)/prefect $(ARGS)

s3: install ## Run kaleidoscope ARGS with the S3 server in the cluster.
	$(BIN)/python -m deployments.kubernetes exec $(BIN)/kaleidoscope $(ARGS)

cluster-up: install ## Make a cluster on AWS; says the cost, makes nothing without CONFIRM=yes.
	@$(BIN)/python -m infra.aws up --confirm "$(CONFIRM)" $(ARGS)

cluster-check: install ## Say what is up on AWS, whether pods reach the data, and what it costs.
	@$(BIN)/python -m infra.aws check $(ARGS)

cluster-down: install ## Remove the cluster on AWS but not the data; CONFIRM=yes.
	@$(BIN)/python -m infra.aws down --confirm "$(CONFIRM)" $(ARGS)

COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11 \
	--only-binary :all: --generate-hashes --no-emit-index-url \
	--custom-compile-command "make constraints" --quiet

# PyTorch is no pin of ours, as below; its CUDA libraries would come along.
constraints: install ## Bring the pins up to pyproject.toml; UPGRADE=1 takes newer releases.
	$(BIN)/python -m pip install --quiet uv
	echo torch | $(COMPILE) pyproject.toml --excludes /dev/stdin --extra webdataset --extra huggingface \
		--group build --group demo --group bench --group docs --group examples --group test \
		$(if $(UPGRADE),--upgrade) --output-file constraints.txt
	$(COMPILE) pyproject.toml --constraints constraints.txt \
		--output-file deployments/requirements.txt
	$(COMPILE) --group build --constraints constraints.txt \
		--output-file deployments/requirements-build.txt

clean: ## Remove whatever make made, the virtual environment included.
	rm -rf $(VENV) .demo .cache build dist
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps, so that an edit of pyproject.toml does not go through all dependencies again.
$(VENV)/.dependencies: constraints.txt
ifeq ($(PYTHON),)
	@echo "Kaleidoscope needs Python 3.11, 3.12 or 3.13; name one with make PYTHON=/path/to/python" >&2
	@exit 1
endif
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned dependencies, a minute or two the first time ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--require-hashes --only-binary :all: --requirement constraints.txt
	@touch $@

# For the tests of its loader alone. Without a hash, since builds for CPUs and for GPUs share a version.
$(VENV)/.torch: $(VENV)/.dependencies
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@touch $@

$(VENV)/.project: $(VENV)/.dependencies pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	@touch $@
