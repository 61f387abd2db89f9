#!/usr/bin/env bash
# The tests on a real cluster: hack/e2e.sh [all | kube | conformance] [FLAGS OF go test]
#
# KUBECONFIG names the cluster and KO_DOCKER_REPO where its images come from;
# Knative Eventing's CRDs must be installed. kube is Penstock as its users meet
# it, and installs config/; conformance is Knative's features.
# E2E=quick leaves out what takes long, E2E_SCALE=1 adds 5,000 Triggers,
# E2E_KEEP=1 keeps the namespaces of failed tests, BROKER_CLASS is what
# conformance asks (Penstock).
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}
[ $# -eq 0 ] || shift
for v in KUBECONFIG KO_DOCKER_REPO; do
  [ -n "${!v:-}" ] || { echo "hack/e2e.sh: $v is not set: see CONTRIBUTING.md for a cluster" >&2; exit 2; }
done
command -v ko >/dev/null || { echo "hack/e2e.sh: ko is not installed: go install github.com/google/ko@latest" >&2; exit 2; }
case $what in
all) packages=(./test/e2e/kube ./test/conformance) ;;
kube) packages=(./test/e2e/kube) ;;
conformance) packages=(./test/conformance) ;;
*) sed -n 2p "$0" >&2; exit 2 ;;
esac

# One image of the probe for all packages.
E2E_PROBE_IMAGE=$(GOFLAGS=-buildvcs=false ko build --sbom=none github.com/penstock-events/penstock/test/kube/cmd/probe 2>/dev/null | tail -1)
export E2E_PROBE_IMAGE

failed=()
for package in "${packages[@]}"; do
  start=$SECONDS
  echo "== $package"
  out=$(mktemp)
  # The quick run has no time for Knative's features one by one.
  extra=()
  [ "${E2E:-}" = quick ] && [ "$package" = ./test/conformance ] && extra=(-run '^TestBroker(Conformance|DataPlane|AsMiddleware|DeadLetter)')
  if go test -count=1 -v -parallel 4 -timeout 45m "${extra[@]}" "$package" "$@" >"$out" 2>&1; then
    # What tests say of themselves, and every skip of a whole test.
    grep -E '^ +[a-z_]+_test\.go:[0-9]+: .*[0-9]|^--- SKIP|^(ok|PASS)|SKIPPED' "$out" || true
  else
    cat "$out"
    failed+=("$package")
  fi
  rm -f "$out"
  echo "== $package took $((SECONDS - start)) s"
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
