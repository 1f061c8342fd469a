# Pronto: one program that answers the telephone and loses nothing.
# `make` alone explains the targets.

SHELL       := /bin/bash
INTEROP     ?=
FUZZTIME    ?= 20s
SOAK        ?= 10000
DATA        ?= data
VERSION     ?= 0.2.0
NFPM         = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0
UI           = cd web/ui && PATH="$$(../../.ci/node ../../.make/node):$$PATH" PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1
FOR_RUN      = postgresql:/usr/lib/postgresql/*/bin/initdb
FOR_TEST     = $(FOR_RUN) sip-tester:sipp chromium:chromium gcc:gcc libc6-dev
FOR_INTEROP  = baresip-core:baresip linphone-cli:linphonec python3-numpy

.DEFAULT_GOAL := help
.PHONY: help deb run call phone build test test-go test-ui test-browser days check race fuzz bench interop ui api clean go

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

go:
	@command -v go >/dev/null || { echo 'Go is missing: install Go 1.21 or later (it fetches 1.26 by itself), https://go.dev/dl' >&2; exit 1; }

deb: go ## a Debian package in bin, of version VERSION
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/pronto ./cmd/pronto
	gzip -9n <cmd/pronto/package/pronto.1 >bin/pronto.1.gz
	VERSION="$(VERSION)" GOARCH="$$(go env GOARCH)" go run $(NFPM) package --config cmd/pronto/package/nfpm.yaml --packager deb --target bin

build: go ## bin/pronto and bin/caller
	@mkdir -p bin
	go build -trimpath -o bin/pronto ./cmd/pronto
	go build -trimpath -o bin/caller ./cmd/caller

run: build ## a help desk with demo data: telephone on 127.0.0.1:5060, console on http://127.0.0.1:8080
	@.ci/packages $(FOR_RUN)
	bin/pronto serve --data $(DATA) --sip 127.0.0.1:5060 --rtp 20000-24999 --http 127.0.0.1:8080 --demo

call: build ## ring the desk of `make run` as Dr Mario Rossi and press 2
	bin/caller --server 127.0.0.1:5060 --to 800000001 --from +390551234567 --press 2 --for 60s

phone: build ## be anna's telephone at the desk of `make run`: lifts after 3 s, talks for 20 s
	@test -r $(DATA)/demo.json || { echo 'first start the desk: make run' >&2; exit 1; }
	@CALLER_PASSWORD="$$(sed -n 's/.*"1001": "\(.*\)".*/\1/p' $(DATA)/demo.json)" \
		bin/caller --server 127.0.0.1:5060 --register 1001 --answer-after 3s --talk 20s

test: go test-go test-ui test-browser ## everything that uses only this tree; installs the Debian packages it lacks

test-go: build
	@.ci/packages $(FOR_TEST)
	go vet ./...
	go test -count=1 -timeout 20m ./...

test-ui:
	@.ci/node .make/node >/dev/null
	$(UI) npm ci --no-audit --no-fund --silent
	$(UI) npm run check
	$(UI) npm test
	$(UI) npm run check:dist

test-browser: build
	@.ci/packages $(FOR_TEST)
	$(UI) npm run e2e

ui: ## rebuild the console's committed bundle from its sources
	$(UI) npm ci --no-audit --no-fund --silent
	$(UI) npm run build

days: build ## thirty days of two hundred callers at random, each from its seed (make test has three)
	@.ci/packages $(FOR_TEST)
	go test -count=1 -timeout 60m -run '^TestDay$$' -v ./cmd/pronto -days 30

check: go ## formatting, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these files' >&2; exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

race: build ## the tests under the race detector
	@.ci/packages $(FOR_TEST)
	go test -race -count=1 -timeout 60m ./...

fuzz: go ## every fuzz target for FUZZTIME (20s) each
	@.ci/fuzz $(FUZZTIME)

bench: build ## what the desk does and what it costs: one table, CPU per unit
	@.ci/packages $(FOR_TEST)
	go test -run '^$$' -bench . -benchtime 2s ./...
	go test -tags figures -count=1 -run '^TestFigures$$' -v -timeout 40m ./cmd/pronto -soak $(SOAK)

interop: build ## other people's telephones and torture messages: make interop INTEROP=../shared/interop
	@test -n "$(INTEROP)" || { echo 'name the folder of the material: make interop INTEROP=../shared/interop' >&2; exit 1; }
	@.ci/packages $(FOR_TEST) $(FOR_INTEROP)
	@.ci/kamailio $(CURDIR)/.make/kamailio
	PRONTO_INTEROP="$(abspath $(INTEROP))" go test -count=1 -run '^Fuzz' ./sip/...
	PRONTO_INTEROP="$(abspath $(INTEROP))" go test -tags interop -count=1 -parallel 7 -timeout 20m -run '^TestInterop' -v ./cmd/pronto

api: go ## renew the API's description (web/openapi.json) and the console's types from the code
	go test -count=1 -run '^TestDescriptionIsCommitted$$' ./web -renew
	@.ci/node .make/node >/dev/null
	@test -e web/ui/node_modules/.bin/openapi-typescript || { $(UI) npm ci --no-audit --no-fund --silent; }
	$(UI) npm run types

clean: ## remove what was built (never the data)
	rm -rf bin .make web/ui/node_modules
