# `make` alone prints the targets. Options for the program behind a target go into ARGS:
#   make run ARGS="--data /srv/yalo --replicas 2"
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

TARGET := $(or $(CARGO_TARGET_DIR),target)
ARGS ?=
PAGES := tests/pages
# What `make lint` and `make test` need of the pages: nothing as long as there are none.
PAGES_READY := $(if $(wildcard $(PAGES)/package.json),$(PAGES)/node_modules/.package-lock.json)
# Clippy's warnings are errors here and in CI only, never in a plain build.
CLIPPY := cargo clippy --locked --all-targets
# What the checker needs.
define CHAOS_TOOLS
YALO_TEST_NATS_SERVER=$$(scripts/nats-server.sh)
YALO_TEST_CASSANDRA_LIB=$$(scripts/cassandra.sh)
export YALO_TEST_NATS_SERVER YALO_TEST_CASSANDRA_LIB
endef

.PHONY: help run release test chaos mistakes cassandra scylla check fmt lint bench bench-store bench-ingest fleet up down clean rust

help: ## What you can do here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: release ## Talk to a bot: builds yalo, gets a nats-server if there is none, starts everything in one process
	@if [ -n "$${YALO_NATS__URL:-}" ]; then
		exec $(TARGET)/release/yalo all $(ARGS)
	fi
	server=$$(scripts/nats-server.sh)
	exec $(TARGET)/release/yalo all --set nats.server="$$server" $(ARGS)

release: rust
	@cargo build --release --locked

test: rust $(PAGES_READY) ## All tests, with a real nats-server, Cassandra, dialogues and browser; gets what is missing
	@nats_server=$$(scripts/nats-server.sh)
	corpus=$$(scripts/corpus.sh)
	chromium=$$(scripts/chromium.sh)
	cassandra=$$(scripts/cassandra.sh)
	export YALO_TEST_NATS_SERVER="$$nats_server" YALO_TEST_CORPUS="$$corpus"
	export YALO_TEST_CHROMIUM="$$chromium" CHROMIUM="$$chromium" YALO_TEST_CASSANDRA_LIB="$$cassandra"
	$(if $(PAGES_READY),npm --prefix $(PAGES) test)
	cargo test --locked $(ARGS)

chaos: release ## Ten minutes of every fault on a fleet, with SQLite and on Cassandra; what users were told against what is stored
	@$(CHAOS_TOOLS)
	cargo test --locked --test chaos -- --program "$$(realpath $(TARGET)/release/yalo)" --seconds 300 --conversations 40 $(ARGS)

mistakes: rust ## Has yalo make each of its known mistakes, and sees that the checker catches it
	@$(CHAOS_TOOLS)
	cargo test --locked --test chaos -- --mistake all $(ARGS)

cassandra: rust ## The long form on Cassandra, alone and as a ring of three: the contract, all nodes gone, every dialogue, two minutes of faults
	@$(CHAOS_TOOLS)
	YALO_TEST_CORPUS=$$(scripts/corpus.sh)
	export YALO_TEST_CORPUS
	cargo test --locked --lib store::cql
	# By itself: a million rows beside all the others are too much for one small node.
	cargo test --locked --lib store::cql -- --ignored
	YALO_TEST_CASSANDRA_NODES=3 cargo test --locked --lib store::cql
	cargo test --locked --test it cql::ring -- --ignored
	cargo test --locked --test it replay -- --ignored --nocapture --test-threads 1
	for nodes in 1 3; do
		cargo test --locked --test chaos -- --store cql --nodes $$nodes --seconds 120 $(ARGS)
	done

scylla: rust ## The contract of the store on ScyllaDB in a container (Linux with Docker; needs no Java)
	@# The file as a whole wants a key, this service has no use for it.
	export COMPOSE_PROJECT_NAME=yalo-test YALO_AUTH__GUEST_KEY=unused
	trap 'docker compose --profile scylla down --volumes' EXIT
	docker compose --profile scylla up --detach --wait scylla
	container=$$(docker compose ps --quiet scylla)
	address=$$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$$container")
	YALO_TEST_CQL_NODES="$$address:9042" cargo test --locked --lib store::cql -- $(ARGS)

check: rust ## Does it compile? The quickest answer
	@cargo check --locked --all-targets

fmt: rust ## Format the sources
	@cargo fmt
	if [ -f bench/Cargo.toml ]; then cargo fmt --all --manifest-path bench/Cargo.toml; fi

lint: rust $(PAGES_READY) ## Formatting, clippy, the types of the pages, the shell scripts; warnings are errors
	@cargo fmt --check
	if [ -f bench/Cargo.toml ]; then cargo fmt --all --check --manifest-path bench/Cargo.toml; fi
	$(CLIPPY) -- -D warnings
	$(if $(PAGES_READY),npm --prefix $(PAGES) run types)
	if command -v shellcheck >/dev/null; then
		shellcheck -x scripts/*.sh tests/cassandra/node.sh .ci/run
	else
		echo "shellcheck is not here: the scripts were not looked at"
	fi

bench: ## Measure yalo beside what its parts can do (10 to 20 minutes on 2 cores, leave the machine alone)
	@scripts/bench.sh compare $(ARGS)

bench-store: ## The same for the store on a real Cassandra: stream to commit, beside the bare driver (20 to 40 minutes)
	@scripts/bench.sh store $(ARGS)

bench-ingest: ## Measure uploads beside the same messages published straight; memory while 5 million lines pass
	@scripts/bench.sh compare-ingest $(ARGS)

fleet: release ## A whole fleet on this machine: 3 nats-servers, 2 frontends, 3 bots, 2 auditors, 1 admin
	@YALO=$(TARGET)/release/yalo exec scripts/fleet.sh $(ARGS)

up: ## The fleet in containers (needs Docker and YALO_AUTH__GUEST_KEY, see compose.yaml)
	@docker compose up --build --detach $(ARGS)

down: ## Stop the containers; what they stored stays
	@docker compose down $(ARGS)

clean: ## Remove what was built and fetched; conversations (.yalo) stay
	@cargo clean
	rm -rf .tools bench/target $(PAGES)/node_modules

rust:
	@command -v cargo >/dev/null || {
		echo "Rust is missing. Install it from https://rustup.rs (one command), then run make again." >&2
		exit 1
	}

$(PAGES)/node_modules/.package-lock.json: $(PAGES)/package-lock.json
	@source scripts/tools.sh
	need node nodejs
	need npm npm
	npm --prefix $(PAGES) ci --no-audit --no-fund --loglevel=error
	touch $@
