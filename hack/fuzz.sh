#!/usr/bin/env bash
# Runs every fuzz target of the repository for the given time each.
set -euo pipefail
time=${1:-10s}
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT

fuzz() {
  go test "./$1" -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1x 2>&1 | tee "$out" && return
  # A worker that is still at an input when the time is up makes `go test` fail
  # with these words and nothing else (golang.org/issue/75804). An input that
  # fails is written down.
  grep -q 'context deadline exceeded' "$out" && ! grep -qE 'Failing input|panic:' "$out" && echo "the time was up: not a failure"
}

grep -rl --include='*_test.go' '^func Fuzz' pkg test | xargs -n1 dirname | sort -u | while read -r dir; do
  grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | sort -u | while read -r target; do
    echo "== $dir $target"
    fuzz "$dir" "$target" </dev/null
  done
done
