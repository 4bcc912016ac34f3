#!/usr/bin/env bash
# Makes a Python environment with torch: scripts/torch-env.sh NAME FOLDER REQUIREMENTS [pip options], paths from the root of the
# checkout. Does nothing when the environment is already made for those pins. Exits non-zero with one line, which begins with
# NAME, that says why when it cannot be made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly name="$1" venv="$2" requirements="$3"
shift 3
readonly stamp="$venv/requirements.cksum"
readonly log="$venv/install.log"

fail() {
  echo "$name: $1" >&2
  exit 1
}

command -v python3 >/dev/null || fail "python3 was not found; install Python 3.11 or newer"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "python3 is older than 3.11"

wanted="$(python3 -c 'import platform; print(platform.python_version())') $(cksum <"$requirements")"
if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]]; then
  exit 0
fi

rm -rf "$venv"
mkdir "$venv"
python3 -m venv "$venv" >"$log" 2>&1 ||
  fail "python3 -m venv failed (is the venv module installed?); see $log"

pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@")
torch="$(grep '^torch==' "$requirements")"
# torch comes first and alone: the later install then finds it and does not replace it with a CUDA build.
"${pip[@]}" "$torch" >>"$log" 2>&1 || fail "pip could not install $torch; see $log"
"${pip[@]}" -r "$requirements" >>"$log" 2>&1 || fail "pip could not install $requirements; see $log"

echo "$wanted" >"$stamp"
echo "$name: $venv is ready"
