# Rivergate. `make help` says what there is to make.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'

TOOLS   := $(CURDIR)/.cache/bin
SOURCES := deploy host plugins sdk services proto
PUSHERS := $(notdir $(patsubst %/,%,$(wildcard plugins/pusher/*/)))
STORAGES := $(notdir $(patsubst %/,%,$(wildcard plugins/storage/*/)))

SERVICES      ?= postgres redis pgbouncer mysql nats mosquitto rabbitmq kafka s3 minisign chromium pgvector
FUZZTIME      ?= 1m
SOAK          ?= 15m
FUZZ_PACKAGES ?= $(SOURCES)
TESTFLAGS     ?=
RACE          ?=

# The race detector looks at Go. SQLite is C made into Go, with locks and memory of its own; under it the ledger's tests take twice as long.
DETECTOR := -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=modernc.org/libc=-race=false

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: host
host: ## build only the host, bin/rivergate
	@$(GOBUILD) -o bin/rivergate ./host

.PHONY: build
build: host $(PUSHERS:%=pusher-%) $(STORAGES:%=storage-%) ## build the host and every plugin, into bin/ and bin/plugins/

.PHONY: $(PUSHERS:%=pusher-%)
$(PUSHERS:%=pusher-%): pusher-%:
	@$(GOBUILD) -o bin/plugins/rivergate-pusher-$* ./plugins/pusher/$*

.PHONY: $(STORAGES:%=storage-%)
$(STORAGES:%=storage-%): storage-%:
	@$(GOBUILD) -o bin/plugins/rivergate-storage-$* ./plugins/storage/$*

# What is set in the environment wins, so `RIVERGATE_LISTEN=127.0.0.1:9090 make run` does what it says.
.PHONY: run
run: export PLUGIN_FILE_ENABLED ?= true
run: export PLUGIN_FILE_PATH ?= data/out/{org}/{date}.jsonl
run: export RIVERGATE_DATA_DIR ?= data
run: host pusher-file storage-local ## build the host, the file pusher and the local storage, and start them: rows arrive in data/out/
	@exec bin/rivergate serve

# Two steps in make test: the tests of a pusher kill its server and bring it back, those of host/e2e kill all of them. What takes
# longest begins first. RACE=1, as CI has it, puts the first step under the race detector; host/e2e runs the binaries that ship.
# -count=1 throughout: many tests build and run binaries, which the cache of test results does not see.
.PHONY: test
test: ## everything, end to end included, with the real servers it needs; RACE=1: unit tests under the race detector
	@deploy/services run $(SERVICES) -- bash -c 'go test -count=1 $(RACE:1=$(DETECTOR)) -timeout 30m $(TESTFLAGS) $$(go list ./sdk/python ./sdk/plugintest/conformance ./services/storage/vectors ./... | grep -v /host/e2e$$) && code=0 || code=$$?; \
		go test -count=1 -timeout 30m $(TESTFLAGS) ./host/e2e && exit $$code'

.PHONY: race
race: ## only the unit tests, under the race detector
	@deploy/services run $(SERVICES) -- go test -count=1 $(DETECTOR) -timeout 30m $(TESTFLAGS) $$(go list ./... | grep -v /host/e2e$$)

.PHONY: e2e
e2e: ## only the end-to-end tests: kill -9, full disk, dead destinations
	@deploy/services run $(SERVICES) -- go test -count=1 -timeout 20m -v $(TESTFLAGS) ./host/e2e/...

.PHONY: soak
soak: ## ten plugins in random trouble under load for SOAK (15m): nothing lost, nothing leaked
	@SOAK=$(SOAK) go test -count=1 -timeout 2h -v -run '^TestTenPluginsInTrouble' $(TESTFLAGS) ./host/e2e

.PHONY: fuzz
fuzz: ## every fuzz target in turn, FUZZTIME (1m) each; FUZZ_PACKAGES narrows it to folders
	@deploy/fuzz $(FUZZTIME) $(FUZZ_PACKAGES)

.PHONY: bench
bench: build ## the figures of deploy/BENCHMARKS.md, with the noise floor of this machine
	@deploy/services run postgres mysql kafka s3 -- go run ./host/bench

.PHONY: lint
lint: ## gofmt, go vet, golangci-lint (who may import whom), folder names, shellcheck
	@files=$$(gofmt -l $(SOURCES)); [[ -z $$files ]] || { echo "not formatted (gofmt -w them):"; echo "$$files"; exit 1; }
	@folders=$$(find $(SOURCES) -type d \( -name util -o -name utils -o -name common -o -name helper -o -name helpers -o -name pkg \)); \
		[[ -z $$folders ]] || { echo "a folder bears the name of its subject, not:"; echo "$$folders"; exit 1; }
	@go vet ./...
	@deploy/tools golangci-lint
	@$(TOOLS)/golangci-lint run --allow-parallel-runners
	@deploy/services run shellcheck -- shellcheck $$(grep -lrE '^#!.*bash' deploy) deploy/server/*.bash

.PHONY: proto
proto: ## generate the Go and Python code of the plugin protocol again
	@deploy/tools buf protoc-gen-go protoc-gen-go-grpc
	@cd proto && export PATH=$(TOOLS):$$PATH && buf lint && buf generate
	@deploy/proto-python

.PHONY: docs
docs: build ## write the table of variables into README.md again
	@RIVERGATE_PLUGIN_DIR=bin/plugins bin/rivergate config-table --write README.md

.PHONY: vuln
vuln: ## known vulnerabilities in what we import, when the database can be reached
	@deploy/tools govulncheck
	@out=$$($(TOOLS)/govulncheck ./... 2>&1) && { echo "$$out"; exit 0; }; echo "$$out"; \
		if grep -qE 'vuln\.go\.dev|fetching vulnerabilities' <<<"$$out" && ! grep -q '^Vulnerability #' <<<"$$out"; then \
			echo "NOT CHECKED: the vulnerability database cannot be reached from here"; \
		else exit 1; fi

.PHONY: services
services: ## start the real servers that tests need, on free ports; deploy/services stop ends them
	@deploy/services start $(SERVICES)

.PHONY: clean
clean: ## remove what was built; data/ stays
	@rm -rf bin
