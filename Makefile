# `make test` and `make check` need Go (the version in go.mod) and nothing else;
# the client tests also use Node.js where it is installed.

GO      ?= go
TOOLS    = $(GO) tool -modfile=hack/tools/go.mod
FUZZTIME ?= 10s

.PHONY: all build test check fmt vet lint race fuzz bench bench-quick bench-backlog bench-backlog-full bench-journal bench-cores bench-rerun recovery reliability faults soak e2e clean help

all: check test

## build: bin/penstock, one static binary
build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/penstock ./cmd/penstock

## test: every test, on the real binary, real files, real HTTP (about 4 minutes on 2 cores)
test:
	$(GO) test ./...

## check: format, vet, lint, layers and package comments, and the packages under the race detector
check: fmt vet lint race

fmt:
	@bad=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$bad" ]; then echo "not gofmt'ed:"; echo "$$bad"; exit 1; fi

vet:
	$(GO) vet ./...

lint:
	$(TOOLS) staticcheck ./...

race:
	$(GO) test -race -short ./pkg/... ./test/layers ./test/memhttp

## fuzz: every fuzz target for FUZZTIME each
fuzz:
	@hack/fuzz.sh $(FUZZTIME)

NGINX = command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || [ "$$(id -u)" != 0 ] || \
	{ apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; }

bin/bench: FORCE
	@$(GO) build -o $@ ./test/bench

## bench: CPU per event beside nginx, the smallest brokers and Knative in the same run; rewrites docs/performance.md and its plot (15 minutes)
bench: bin/bench
	@$(NGINX)
	bin/bench

## bench-quick: the rows of CI in 2 minutes, ratios only, prints only
bench-quick: bin/bench
	@$(NGINX)
	bin/bench -quick

## bench-backlog: memory with 1,000,000 events that wait for 100 triggers, restarts, and the drain (5 minutes, 2 GiB of disk)
bench-backlog: bin/bench
	bin/bench backlog

## bench-backlog-full: the same with 10,000,000 (30 minutes, 13 GiB of disk)
bench-backlog-full: bin/bench
	bin/bench backlog -events 10000000

## bench-journal: what the journal and a dedup window cost, ten pairs (2 minutes)
bench-journal: bin/bench
	bin/bench -rows journal

## bench-cores: events/s with the broker on one processor and on two, then with sender and sink on the same ones, ten pairs each (6 minutes)
bench-cores: bin/bench
	bin/bench -rows cores,cores-all

## bench-rerun: a replay of 1,000,000 events by checksum, a redrive of 100,000 dead letters in flat memory (6 minutes, 1 GiB of disk)
bench-rerun: bin/bench
	bin/bench rerun

## faults: power cuts, failing, full and slow disks, limits, under the real binary (as root; about 2 minutes)
faults:
	@cd test/faults && PENSTOCK_PROOF=$${PENSTOCK_PROOF:-ci} $(GO) test -count=1 -parallel 3 -timeout 0

## recovery: time to the first 202 after a kill, with 10 GiB of log and with 1 GiB (as root; 2 minutes and 17 GiB of disk)
recovery:
	@cd test/faults && PENSTOCK_PROOF=1s $(GO) test -count=1 -timeout 0 -v -run Recovery

## reliability: the proofs of docs/reliability.md at the size it names (about 6 minutes; as root also power cuts and failing disks)
reliability:
	@hack/reliability.sh ci

## soak: the same proofs, on and on for TIME (make soak TIME=8h)
TIME ?= 1h
soak:
	@hack/reliability.sh $(TIME)

## e2e: on the cluster of KUBECONFIG with images in KO_DOCKER_REPO: install, restarts, mistakes, Knative's conformance (12 minutes; E2E=quick make e2e: 3)
e2e:
	@hack/e2e.sh all

FORCE:

clean:
	rm -rf bin

help:
	@grep -h '^## ' Makefile | sed 's/^## //'
