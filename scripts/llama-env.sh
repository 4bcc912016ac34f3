#!/usr/bin/env bash
# Puts llama.cpp, as node-llama-cpp brings it ready built, into .llama-cpp/ (git-ignored), for test/export/llama-cpp.test.ts. It is no
# development dependency of the package: with its GPU builds it would be a gigabyte that hardly anybody needs. Runs no install script.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly folder=.llama-cpp version=3.22.1
case "$(uname -s)-$(uname -m)" in
  Linux-x86_64) build=linux-x64 ;;
  Linux-aarch64) build=linux-arm64 ;;
  Darwin-arm64) build=mac-arm64-metal ;;
  Darwin-x86_64) build=mac-x64 ;;
  *)
    echo "llama-env: no ready build for $(uname -s) on $(uname -m)" >&2
    exit 1
    ;;
esac
if [[ -f "$folder/version" && "$(<"$folder/version")" == "$version" ]]; then
  exit 0
fi
rm -rf "$folder"
mkdir "$folder"
echo '{ "private": true, "type": "module" }' >"$folder/package.json"
for package in node-llama-cpp "@node-llama-cpp/$build"; do
  npm install --prefix "$folder" --ignore-scripts --omit=optional --no-audit --no-fund "$package@$version" >>"$folder/install.log" 2>&1 || {
    echo "llama-env: npm could not install $package; see $folder/install.log" >&2
    exit 1
  }
done
echo "$version" >"$folder/version"
echo "llama-env: $folder is ready"
