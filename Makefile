# Everything a contributor runs. `make` alone shows the list.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEEDS ?= 500
BUILDER ?= docker
IMAGE ?= automq:dev
SEED_BASE ?= 0
PURE_TESTS := tests/unit/broker/core tests/unit/broker/partition/test_partition.py \
  tests/unit/broker/partition/test_record_validation.py tests/unit/broker/partition/test_records_work.py \
  tests/unit/broker/partition/test_validation.py tests/unit/broker/handlers/test_produce.py

.DEFAULT_GOAL := help
.PHONY: help dev run demo test test-pure test-sanitized fuzz wheel check format sim removed-rules chaos soak recovery differential compat bench flame bench-cluster crds e2e kind-up image golden docs lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

CORE := hatch_build.py $(wildcard broker/automq/core/*.pyx broker/automq/core/*.h)

$(STAMP): pyproject.toml requirements-dev.lock $(CORE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(BIN)/python -c 'from automq import core; print("automq.core:", core.description)'
	@touch $@

dev: $(STAMP)  ## Make .venv with the locked dependencies and the console script `automq`

run: $(STAMP)  ## Run a broker on localhost:9092 with its data in ./automq-data
	$(BIN)/automq up

test: $(STAMP)  ## Run the tests: unit, contract, scenarios, short simulation, real clients
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-pure: $(STAMP)  ## Run again, without compiled functions, the tests and simulated clusters that pass through them
	AUTOMQ_PURE=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PURE_TESTS)
	AUTOMQ_PURE=1 $(BIN)/python -m tests.sim --seeds 10

# Not PURE_TESTS: what forks or measures time has no place under a sanitizer.
SANITIZED_TESTS := tests/unit/broker/core tests/unit/broker/handlers/test_produce.py

test-sanitized: $(STAMP)  ## Run the tests of the compiled functions with the address and undefined-behaviour sanitizers
	AUTOMQ_SANITIZE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	LD_PRELOAD=$$(cc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	  $(BIN)/python -m pytest -q $(SANITIZED_TESTS); status=$$?; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . && exit $$status

fuzz: $(STAMP)  ## Fuzz the compiled functions: INPUTS=n, COMPARED=n of them against their twins, SANITIZE=1
	$(if $(SANITIZE),AUTOMQ_SANITIZE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .)
	$(if $(SANITIZE),LD_PRELOAD=$$(cc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc) \
	  $(BIN)/python -m tests.fuzz $(if $(INPUTS),--inputs $(INPUTS)) $(if $(COMPARED),--compared $(COMPARED))
	$(if $(SANITIZE),$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .)

wheel: $(STAMP)  ## Make two wheels in dist/: one for this platform, compiled, and one of Python alone
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	AUTOMQ_PURE=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist

check: $(STAMP)  ## Check format, lint, types and layers
	$(BIN)/ruff format --check broker operator tests hatch_build.py
	$(BIN)/ruff check broker operator tests hatch_build.py
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Format the code and apply safe lint fixes
	$(BIN)/ruff format broker operator tests hatch_build.py
	$(BIN)/ruff check --fix broker operator tests hatch_build.py

sim: $(STAMP)  ## Simulate: SEEDS=n SEED_BASE=b, one broker and clusters of several (CLUSTER=1: these alone), or one SEED=x with its trace; DAMAGE=1 for damaged clusters
	$(BIN)/python -m tests.sim $(if $(DAMAGE),--damage) $(if $(CLUSTER),--cluster) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --seed-base $(SEED_BASE))
	$(if $(SEED)$(DAMAGE)$(CLUSTER),,$(BIN)/python -m tests.sim --cluster --seeds $(SEEDS) --seed-base $(SEED_BASE))
demo: $(STAMP)  ## Watch a cluster under load grow, drain and lose brokers, with a picture in build/demo.svg
	$(BIN)/python -m tests.demo

removed-rules: $(STAMP)  ## Find, for every rule, a seed that fails without it; rewrites the table in docs/simulation.md
	$(BIN)/python -m tests.sim.removed_rules

chaos: $(STAMP)  ## Kill -9 a real broker 50 times under real clients (STORE=uri, LARGE=1 for 1 MB batches, BUSY=1); BROKERS=3 MINUTES=10: all that happens to clusters
	$(BIN)/python -m tests.chaos $(if $(BROKERS),--brokers $(BROKERS) --minutes $(or $(MINUTES),10)) $(if $(SEED),--seed $(SEED)) --kills $(or $(KILLS),50) $(if $(STORE),--store '$(STORE)') $(if $(LARGE),--record-bytes 9000 --rate 2000) $(if $(BUSY),--busy)

soak: $(STAMP)  ## 20 minutes of a load that never changes: what grows with time fails (SHORT=1: two minutes)
	$(BIN)/python -m tests.soak $(if $(SHORT),--short)

recovery: $(STAMP)  ## Recover a dead broker's log of MIB=4096 mebibytes within the account of a small broker
	RECOVERY_MIB=$(or $(MIB),4096) $(BIN)/python -m pytest -q tests/scale/test_recovery.py

differential: $(STAMP)  ## Ask Apache Kafka of the testbed the recorded questions anew and rewrite the answers
	$(BIN)/python -m tests.compat.differential $(QUESTIONS)

compat: $(STAMP)  ## Run the tools that people use against a broker: TOOLS="connect kafkajs"; SKIPPED, why, without their packages
	$(BIN)/python -m tests.tools $(TOOLS)

bench: $(STAMP)  ## Measure; writes build/bench.json
	$(BIN)/python -m tests.bench

flame: $(STAMP)  ## Draw where the CPU goes under bench rows, build/flame-*.svg, with py-spy: ROWS="16-kb-batches idle-consumers"
	$(BIN)/python -m tests.bench.flame $(ROWS)

bench-cluster: $(STAMP)  ## Measure clusters on a slow store and write docs/benchmarks.md: GROUPS="moves kill controller drain idle join three drain5000 small kafka"
	$(BIN)/python -m tests.bench.cluster_report $(GROUPS)

crds: $(STAMP)  ## Write CRDs, alerts and dashboards anew from the operator's models
	$(BIN)/python -m automq_operator.generate .

e2e: $(STAMP)  ## Test operator and broker on the Kubernetes cluster of KUBECONFIG: E2E=--short, --chain (a cluster's whole life), or names of stories
	$(BIN)/python -m tests.e2e $(E2E)

kind-up:  ## Make a kind cluster with the image, an S3 server and the operator (needs a container engine)
	tests/e2e/kind-up

image:  ## Build the image: BUILDER=docker|podman|buildah, IMAGE=name:tag, BASE=python image
	$(BUILDER) $(if $(filter buildah,$(BUILDER)),bud,build) $(if $(BASE),--build-arg BASE=$(BASE)) -t $(IMAGE) -f Dockerfile .

golden: $(STAMP)  ## Write the golden files anew; commit only what you understand
	$(BIN)/python -m pytest -q --rewrite-golden tests/unit tests/scenarios tests/charts

docs: $(STAMP)  ## Write the generated parts of docs/ anew
	$(BIN)/python -m tests.support.generate_docs

lock: $(STAMP)  ## Resolve the dependencies anew into the requirements*.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header -o requirements-broker.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --extra operator -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --extra operator --group dev -o requirements-dev.lock pyproject.toml

clean:  ## Remove what the other targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
