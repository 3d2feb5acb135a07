#!/usr/bin/env bash
# Makes a checkout ready: system packages, .venv, pinned dependencies, edgekit itself (editable).
#
# Safe to repeat: once everything is there it returns in a fraction of a second. The Makefile, the
# Dockerfile and the CI all call it, so there is one description of what edgekit needs.
#
#   EDGEKIT_PYTHON       the Python (3.11 or newer) that .venv is made from; default: the first found
#   EDGEKIT_TORCH_INDEX  address of a package index to take torch from, e.g. one with CPU-only builds
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly LOG=$VENV/setup.log
readonly STAMP=$VENV/setup.stamp
readonly DATASET=/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }

# Each package is looked for by what edgekit uses of it, not by name: it may have come another way.
missing_packages() {
  command -v qemu-aarch64 >/dev/null || echo qemu-user
  [ -e "$KEYRING" ] || echo debian-archive-keyring
  [ -e "$DATASET" ] || echo dataset-fashion-mnist
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null; }

install_packages() {
  local log package
  log=$(mktemp)
  say "installing system packages: $*"
  apt update >"$log" 2>&1 || say "apt-get update failed, trying with the package lists at hand"
  for package in "$@"; do
    apt install -y --no-install-recommends "$package" >>"$log" 2>&1 || {
      tail -n 5 "$log"
      say "could not install $package; continuing, what needs it will say so"
    }
  done
  rm -f "$log"
}

provide_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  if ! command -v apt-get >/dev/null; then
    say "not found: ${missing[*]} (the names of the Debian packages); what needs them will say so"
  elif [ "$(id -u)" -ne 0 ]; then
    say "not found: ${missing[*]}. To install, run:"
    say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
  else
    install_packages "${missing[@]}"
  fi
}

is_usable_python() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${EDGEKIT_PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if command -v "$candidate" >/dev/null && is_usable_python "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

# The packages of a Python that has the pinned wheels, by what this release of the system offers.
python_packages() {
  if apt-cache show python3.11-venv >/dev/null 2>&1; then
    echo python3.11 python3.11-venv
  else
    echo python3 python3-venv
  fi
}

provide_python() {
  local packages
  if find_python; then return; fi
  if [ -z "${EDGEKIT_PYTHON:-}" ] && command -v apt-get >/dev/null; then
    if [ "$(id -u)" -eq 0 ]; then
      apt update >/dev/null 2>&1 || true
      read -ra packages < <(python_packages)
      install_packages "${packages[@]}" >&2
      if find_python; then return; fi
    fi
    say "to install one: sudo apt-get install -y $(python_packages)" >&2
  fi
  fail "found no Python 3.11 or newer with the venv module${EDGEKIT_PYTHON:+ as $EDGEKIT_PYTHON}." \
    "To use another one: EDGEKIT_PYTHON=/path/to/python3.11 make demo"
}

# A virtual environment holds absolute paths, so a checkout that moved needs a new one.
fingerprint() { { pwd -P; cat pyproject.toml constraints.txt scripts/setup.sh; } | sha256sum; }

is_ready() { [ -x $VENV/bin/edgekit ] && [ "$(cat $STAMP 2>/dev/null)" = "$(fingerprint)" ]; }

pip_install() {
  PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
    $VENV/bin/python -m pip install --quiet --constraint constraints.txt "$@" >>$LOG 2>&1 || {
    { grep -v '^WARNING' $LOG || true; } | tail -n 20 >&2
    fail "pip could not install the dependencies; the whole story is in $LOG"
  }
}

make_venv() {
  local python
  if [ "$($VENV/bin/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" = "$(pwd -P)/$VENV" ]; then
    return
  fi
  python=$(provide_python)
  say "making $VENV with $("$python" --version) (a few minutes and 2.4 GB; torch for CUDA needs more)"
  rm -rf $VENV
  "$python" -m venv $VENV
}

install_dependencies() {
  say "installing Python dependencies into $VENV"
  : >$LOG
  # Alone and without its dependencies, so that the index named by the user serves torch and nothing else.
  if [ -n "${EDGEKIT_TORCH_INDEX:-}" ]; then
    pip_install --no-deps --index-url "$EDGEKIT_TORCH_INDEX" torch
  fi
  # The build backend first: with build isolation pip would fetch another one past the constraints.
  pip_install hatchling
  pip_install --no-build-isolation --editable '.[all,dev]'
}

provide_packages
if ! is_ready; then
  make_venv
  install_dependencies
  fingerprint >$STAMP
  say "done"
fi
