#!/usr/bin/env bash
# Makes the Python environment of the peers at .venv-peers/ (git-ignored) with the pinned packages of
# bench/peers/requirements.txt, as scripts/torch-env.sh says. Speaks on stderr alone: the benchmark's result is on stdout.
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/../../scripts/torch-env.sh" \
  peers .venv-peers bench/peers/requirements.txt --prefer-binary >&2
