#!/usr/bin/env bash
# Makes the Python environments of test/clients at .venv-clients/ (git-ignored), one for each
# scripts/requirements-clients-NAME.txt: the official client at three majors, and libraries that build on it. With names as
# arguments, those; the tests ask for theirs themselves. Does nothing for those that are already made for their pins. Exits
# non-zero with one line that says why when one cannot be made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "clients-env: $1" >&2
  exit 1
}

command -v python3 >/dev/null || fail "python3 was not found; install Python 3.11 or newer"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "python3 is older than 3.11"
python3 -m pip --version >/dev/null 2>&1 || fail "python3 has no pip; install it"
version="$(python3 -c 'import platform; print(platform.python_version())')"

# make_environment NAME: in a subshell of its own.
make_environment() (
  venv=".venv-clients/$1" requirements="scripts/requirements-clients-$1.txt"
  [[ -f "$requirements" ]] || fail "there is no $requirements"
  wanted="$version $(cksum <"$requirements")"
  # Test files that run side by side need the same ones. The lock is this shell's descriptor: the system frees it with the shell.
  mkdir -p .venv-clients
  exec 9>"$venv.lock"
  python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
  if [[ -f "$venv/requirements.cksum" && "$(<"$venv/requirements.cksum")" == "$wanted" ]]; then
    return
  fi
  rm -rf "$venv"
  mkdir -p "$venv"
  # Without a pip of its own, and compiled only as far as tests import it: half the time.
  python3 -m venv --without-pip "$venv" >"$venv/install.log" 2>&1 ||
    fail "python3 -m venv failed (is the venv module installed?); see $venv/install.log"
  # The files list all that is needed, so nothing is resolved: two of the libraries ask for torch or boto3, unused here.
  python3 -m pip --python "$venv/bin/python" install --quiet --disable-pip-version-check --no-compile --no-deps \
    -r "$requirements" >>"$venv/install.log" 2>&1 ||
    fail "pip could not install $requirements; see $venv/install.log"
  echo "$wanted" >"$venv/requirements.cksum"
  echo "clients-env: $venv is ready"
)

if (($# > 0)); then
  for name in "$@"; do make_environment "$name"; done
  exit
fi
# The libraries take as long as the three clients together.
make_environment libraries &
libraries=$!
clients=ok
(for major in 1 2 3; do make_environment "openai-$major" || exit 1; done) || clients=failed
wait "$libraries" && [[ "$clients" == ok ]]
