# What a developer runs and what CI runs. Each target says what it does and how far it is.
#
#   make demo [KEEP=1] [SCENARIO=card-data|tenants|media|three-tier|trading]
#   make test
#   make test-upgrade [OLD=COMMIT]
#   make conformance DIR=... [MODE=evaluator|ovs|cluster]
#   make cluster [NODES=2] | down
#   make lint | bench | bench-controller | fuzz | docs | image

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
# namespaces need root; as another user, what needs it runs under sudo
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)
ifneq ($(SUDO),)
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
export CARGO_TARGET_$(HOST)_RUNNER := $(SUDO)
endif

TESTBED := $(TARGET_DIR)/debug/weir-testbed
SCENARIO ?= three-tier
MODE ?= evaluator
NODES ?= 2
CRATES := $(notdir $(patsubst %/Cargo.toml,%,$(wildcard */Cargo.toml)))
MEMBERS := $(filter-out fuzz,$(CRATES))

.PHONY: help
help:
	@sed -n 's/^# \{0,1\}//; /^  make/p' $(firstword $(MAKEFILE_LIST))

# For what makes network namespaces.
.PHONY: root
root:
	@if [[ -n "$(SUDO)" ]] && ! command -v sudo >/dev/null; then
		echo "network namespaces need root, and sudo is not installed: run make as root" >&2; exit 3
	fi

# Installs what is missing, and only that. Our switches have directories, sockets and databases of their own, use no
# kernel datapath, and run in namespaces: a system's own Open vSwitch is never touched, running or not.
.PHONY: setup
setup:
	@command -v cargo >/dev/null || { echo "cargo is not installed: see https://rustup.rs" >&2; exit 3; }
	missing=()
	has() { PATH="$$PATH:/usr/sbin:/sbin" command -v "$$1" >/dev/null; }
	has ovs-vswitchd && has ovsdb-server && has ovs-ofctl || missing+=(openvswitch-switch)
	has ip && has bridge || missing+=(iproute2)
	has ethtool || missing+=(ethtool)
	if (($${#missing[@]})); then
		echo "setup: installing $${missing[*]}"
		if ! has apt-get; then
			echo "$${missing[*]} not installed, and this is no Debian: install them by hand" >&2; exit 3
		fi
		if [[ -n "$(SUDO)" ]] && ! has sudo; then
			echo "$${missing[*]} not installed: install them as root" >&2; exit 3
		fi
		$(SUDO) apt-get update -qq
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$${missing[@]}"
	fi

.PHONY: build
build: setup
	@echo "build: the programs of Weir"
	cargo build --workspace --bins

.PHONY: demo
demo: root build
	@$(SUDO) $(TESTBED) demo --scenario $(SCENARIO) --report target/demo/report.json $(if $(KEEP),--keep)

.PHONY: down
down: root build
	@$(SUDO) $(TESTBED) down

# The servers of a cluster: built once, for each content of testbed/kubernetes, outside of target/.
.PHONY: kubernetes
kubernetes:
	@testbed/kubernetes/build

.PHONY: cluster
cluster: build kubernetes
	@$(SUDO) $(TESTBED) cluster up --nodes $(NODES)

# Static programs: with musl where rustup has it, else with the C library of this system. glibc 2.34 and newer brings what
# looks up names along, so that such a program needs nothing of an image.
MACHINE := $(shell uname -m)
MUSL := $(shell test -d "$$(rustc --print target-libdir --target $(MACHINE)-unknown-linux-musl 2>/dev/null)" && command -v musl-gcc)
STATIC := $(MACHINE)-unknown-linux-$(if $(MUSL),musl,gnu)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# Where this checkout and cargo's registry are is no part of the programs, so that they are the same wherever they are built.
CARGO_DIR := $(or $(CARGO_HOME),$(HOME)/.cargo)
IMAGE_FLAGS := -C target-feature=+crt-static --remap-path-prefix=$(CURDIR)=/weir --remap-path-prefix=$(CARGO_DIR)=/cargo

.PHONY: image
image: root setup
	@echo "image: what writes images"
	cargo build --locked --workspace --bin weir-testbed
	echo "image: static programs ($(STATIC))"
	RUSTFLAGS="$(IMAGE_FLAGS)" cargo build --locked --profile image --target $(STATIC) -p weir-controller -p weir-agent --bins
	image() {
		$(SUDO) $(TESTBED) image "weir.io/$$1:$(VERSION)" --program "$(TARGET_DIR)/$(STATIC)/image/$$1" --user "$$2" \
			--label org.opencontainers.image.licenses=Apache-2.0 --out "$(TARGET_DIR)/images/$$1-$(VERSION).tar"
	}
	image weir-controller 65532
	image weir-agent 0

# Always the whole workspace, so that all layers share one build: with fewer packages selected, cargo would unite other
# features and build the dependencies again.
TESTBED_TESTS := $(patsubst testbed/tests/%.rs,--test %,$(wildcard testbed/tests/*.rs))
OTHER_TESTS := $(sort $(foreach f,$(filter-out testbed/%,$(wildcard */tests/*.rs)),$(if $(filter fuzz/%,$(f)),,--test=$(basename $(notdir $(f))))))

# The layers, cheapest first. What is missing for one (root, Open vSwitch) is a failure that says so.
.PHONY: test
test: root setup
	@times=()
	layer() {
		local name=$$1 start=$$SECONDS; shift
		echo; echo "test: $$name"
		"$$@"
		times+=("$$(printf '%-44s %5d s' "$$name" $$((SECONDS - start)))")
	}
	layer "servers of a cluster" testbed/kubernetes/build
	layer "build" cargo test --workspace --no-run
	layer "unit" cargo test --workspace --lib --bins
	layer "vectors, properties, private switches" cargo test --workspace $(OTHER_TESTS)
	layer "documentation examples" cargo test --workspace --doc
	layer "namespaces, real connections, kube-apiserver" cargo test --workspace $(TESTBED_TESTS)
	if [[ -f fuzz/Cargo.toml ]]; then
		layer "fuzz corpus" cargo test --manifest-path fuzz/Cargo.toml --tests
	fi
	echo; echo "test: all layers passed"
	printf '  %s\n' "$${times[@]}"

# An earlier version beside this one. Its programs are built from the history, in a directory of their own, once for each
# commit. The default is a version from before this command.
OLD ?= 20432fd93ee39a3270827b40dd128cd4b3d5218a
.PHONY: test-upgrade
test-upgrade: root build kubernetes
	@old=$$(git rev-parse --verify --quiet "$(OLD)^{commit}") || { echo "OLD=$(OLD) is no commit of this repository" >&2; exit 2; }
	place="$(abspath $(TARGET_DIR))/upgrade/$$old"
	if [[ ! -x $$place/weir-controller || ! -x $$place/weir-agent ]]; then
		echo "test-upgrade: the programs of $$old"
		rm -rf "$$place.src"
		mkdir -p "$$place.src" "$$place"
		git archive "$$old" | tar -x -C "$$place.src"
		(cd "$$place.src" && CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 \
			CARGO_TARGET_DIR="$(abspath $(TARGET_DIR))/upgrade/build" cargo build --locked -p weir-controller -p weir-agent --bins)
		for program in weir-controller weir-agent; do cp "$(abspath $(TARGET_DIR))/upgrade/build/debug/$$program" "$$place/"; done
		rm -rf "$$place.src"
	fi
	$(SUDO) $(TESTBED) upgrade --old-controller "$$place/weir-controller" --old-agent "$$place/weir-agent"

.PHONY: conformance
conformance: $(if $(DIR),$(if $(filter ovs,$(MODE)),root) build,usage)
	@case "$(MODE)" in
		evaluator) $(TESTBED) conformance "$(DIR)" --evaluator ;;
		ovs) $(SUDO) $(TESTBED) conformance "$(DIR)" --ovs ;;
		cluster) testbed/kubernetes/build >/dev/null; $(SUDO) $(TESTBED) conformance "$(DIR)" --cluster ;;
		*) echo "MODE is evaluator, ovs or cluster" >&2; exit 2 ;;
	esac

.PHONY: usage
usage:
	@echo "make conformance DIR=... [MODE=evaluator|ovs|cluster]" >&2
	exit 2

.PHONY: lint
lint:
	@echo "lint: format"
	cargo fmt --all --check
	echo "lint: clippy"
	cargo clippy --workspace --all-targets -- -D warnings
	if [[ -f fuzz/Cargo.toml ]]; then
		cargo clippy --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings
	fi
	echo "lint: each crate alone, so that each manifest tells the truth"
	for crate in $(MEMBERS); do
		cargo check --quiet --manifest-path $$crate/Cargo.toml
	done
	echo "lint: one TLS provider"
	if cargo tree --workspace --target all -e normal,build,dev -i aws-lc-rs 2>/dev/null | grep .; then
		echo "aws-lc-rs is in the tree; rustls can then not choose a provider" >&2; exit 1
	fi
	echo "lint: clean"

# WORLDS="small large" takes the worlds whose names hold one of the words.
.PHONY: bench-controller
bench-controller:
	@echo "bench: the controller's index, as it is released"
	cargo bench -p weir-controller --bench worlds -- $(WORLDS)
	if [[ -z "$(WORLDS)" ]]; then cargo bench -p weir-controller --bench fanout; fi

# ONLY="openflow ovsdb controller flows policy traffic api" takes some of the parts; openflow and ovsdb are the crates
# alone, controller is bench-controller.
BENCH_WEIR := $(filter-out openflow ovsdb controller,$(ONLY))
.PHONY: bench
bench: setup
	@if [[ -z "$(ONLY)" || -n "$(filter openflow,$(ONLY))" ]]; then
		echo "bench: codec, connection and program of ofproto"
		cargo bench -p rust-openflow --features tokio --bench codec --bench openflow_switch --bench program
	fi
	if [[ -z "$(ONLY)" || -n "$(filter ovsdb,$(ONLY))" ]]; then
		echo "bench: the replica of ovsdb"
		cargo bench -p weir-ovsdb --bench replica
	fi
	if [[ -z "$(ONLY)" || -n "$(filter controller,$(ONLY))" ]]; then
		$(MAKE) --no-print-directory bench-controller
	fi
	if [[ -z "$(ONLY)" || -n "$(BENCH_WEIR)" ]]; then
		echo "bench: the programs, as they are released"
		if [[ -z "$(ONLY)" || -n "$(filter api,$(ONLY))" ]]; then testbed/kubernetes/build >/dev/null; fi
		cargo build --release -p weir-controller -p weir-agent --bins
		cargo bench -p weir-testbed --bench weir -- $(BENCH_WEIR)
	fi

ifneq ($(wildcard fuzz/run),)
.PHONY: fuzz
fuzz:
	fuzz/run
endif

.PHONY: docs
docs: setup
	@echo "docs: rustdoc of the crates for anyone, as they see it"
	for crate in ofproto ovsdb; do
		RUSTDOCFLAGS="-D warnings" cargo doc --manifest-path $$crate/Cargo.toml --all-features --no-deps --quiet
	done
	echo "docs: rustdoc of everything, private items included, which others may link to"
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" \
		cargo doc --workspace --no-deps --document-private-items --quiet
	echo "docs: docs/pipeline.md is what code and switch say"
	# as part of the whole workspace, as the tests are: else dependencies are built again with other features
	cargo build --quiet --workspace --example pipeline_doc
	$(TARGET_DIR)/debug/examples/pipeline_doc --check
	echo "docs: clean"
