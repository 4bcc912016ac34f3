#!/usr/bin/env bash
# Makes the Python environment of scripts/make-goldens.py at .venv-goldens/ (git-ignored) with the pinned packages of
# scripts/requirements-goldens.txt, as torch-env.sh says.
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/torch-env.sh" python-env .venv-goldens scripts/requirements-goldens.txt
