# `make test` is the one check of everything; `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# Every module but the tools, which hold no code of ours. The product's own is `.`.
MODULES := . $(filter-out tools/%,$(patsubst %/go.mod,%,$(wildcard */*/go.mod)))
LINT := .tools/bin/golangci-lint

# The checks need no commit stamped in, and fail where the checkout belongs to another user; `make build` stamps it.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)

BENCH ?= .
BENCH_COUNT ?= 6
SOAK_TIME ?= 4h
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# $(call each,TITLE,COMMAND) runs COMMAND in every module, all of them even when one fails.
each = @status=0; for m in $(MODULES); do echo "== $(1) ($$m)"; (cd $$m && $(2)) || status=1; done; exit $$status

.PHONY: help test deps mod generated lint vet fuzz unit bench soak vuln build clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

test: deps mod generated lint vet fuzz unit ## Everything a change must pass (about 15 minutes; `make -k test` goes on after a failure)

deps: ## What the tests need from the system, installed where it is missing
	@tools/deps

mod: ## go.mod and go.sum say what the code needs
	$(call each,go mod tidy,go mod tidy -diff)

# The sums are of all files in the checkout, so that it works without git and with changes not yet committed.
sums = find . \( -name .git -o -name .tools -o -name .svc \) -prune -o -type f -exec cksum {} + | sort
generated: ## Generated files are what go generate makes of their sources
	@echo "== go generate"
	@before=$$($(sums)); go generate ./...; after=$$($(sums)); \
		diff <(echo "$$before") <(echo "$$after") || { echo "generated files were stale; they are up to date now"; exit 1; }

lint: $(LINT) ## Lint and formatting (.golangci.yml)
	$(call each,golangci-lint,$(CURDIR)/$(LINT) run ./...)

# What runs on this machine only is checked for the others as far as a compiler can.
vet: ## go vet for linux, darwin and windows
	$(call each,go vet,for os in linux darwin windows; do echo "   $$os"; CGO_ENABLED=0 GOOS=$$os go vet ./... || exit 1; done)

fuzz: ## Each fuzz target for some seconds (FUZZ_SECONDS=120 is shared by all of a module)
	$(call each,fuzz,$(CURDIR)/tools/fuzz)

# The environment reaches the tests: with REQUIRE_REAL=1 one that needs a real backend and finds none fails.
unit: ## All tests, with the race detector
	$(call each,go test,go test -race -shuffle=on -timeout 40m ./...)

# Benchmarks in compare/rivals name the library in a sub-benchmark, lib=NAME, ours first: benchstat sets them side by side
# and prints the ratios.
bench: .tools/bin/benchstat ## Benchmarks, and the ratios to other libraries (BENCH=regexp BENCH_COUNT=6)
	@mkdir -p .tools/bench
	@echo "== go test -bench"
	@go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCH_COUNT) -timeout 60m ./... | tee .tools/bench/own.txt
	@.tools/bin/benchstat .tools/bench/own.txt
	@test -f compare/rivals/go.mod || { echo "bench: compare/rivals is missing, so there are no ratios" >&2; exit 1; }
	@echo "== go test -bench (compare/rivals)"
	@cd compare/rivals && go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCH_COUNT) -timeout 60m ./... | tee $(CURDIR)/.tools/bench/rivals.txt
	@.tools/bin/benchstat -col /lib .tools/bench/rivals.txt
	@echo "== paired runs, with intervals (compare/rivals/cmd/ratios)"
	@cd compare/rivals && go run ./cmd/ratios

soak: ## The long tests, for hours each (SOAK_TIME=4h); make test runs them for seconds
	@go test -list Soak ./... | grep '^Test' || { echo "soak: there is no test to run" >&2; exit 1; }
	@echo "== soak, $(SOAK_TIME) a test"
	SOAK=$(SOAK_TIME) go test -run Soak -count=1 -v -timeout 0 ./...

vuln: .tools/bin/govulncheck ## Known vulnerabilities; fails in words where the database is out of reach
	$(call each,govulncheck,$(CURDIR)/tools/vuln $(CURDIR)/.tools/bin/govulncheck)

build: ## bin/svc
	CGO_ENABLED=0 go build -trimpath -buildvcs=auto -ldflags '-X main.version=$(VERSION)' -o bin/svc ./cmd/svc

clean: ## Removes what was built, the tools too (building them again takes minutes)
	rm -rf bin .tools

# Each tool has a module of its own, which pins it, and is built again when that changed.
.tools/bin/%: tools/%/go.mod tools/%/go.sum
	@echo "== building $* (the first time takes minutes)"
	@cd tools/$* && go build -trimpath -o $(CURDIR)/$@ tool
	@touch $@
