#!/usr/bin/env bash
# Everything a change must pass: lint, types, all tests. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

declare -A proof=( # of every package, the file that shows it is there
  [chromium]=/usr/bin/chromium [firefox-esr]=/usr/bin/firefox-esr [pulseaudio]=/usr/bin/pulseaudio
  [flite]=/usr/bin/flite [espeak-ng]=/usr/bin/espeak-ng [festival]=/usr/bin/text2wave
  [festvox-kdlpc16k]=/usr/share/festival/voices/english/ked_diphone
)
missing=()
for package in "${!proof[@]}"; do
  [ -e "${proof[$package]}" ] || command -v "$(basename "${proof[$package]}")" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
  else
    echo "the tests need ${missing[*]}; install them with: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

install_requirements requirements-test.txt
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile "$@" # half of the time tests wait: for speech, browsers, servers
