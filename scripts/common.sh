# Sourced by the other scripts: finds a Python, makes .venv and installs a requirements file once per content.
set -euo pipefail
# The caller's folder stays the current one, so that paths among the options mean what they meant to the caller.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  echo "duplex needs Python 3.11 or 3.12; none was found (set PYTHON to name one)" >&2
  return 1
}

# install_requirements FILE: the stamp holds a hash of the requirements, so that an unchanged second start installs nothing.
install_requirements() {
  local file="$root/$1" stamp hash
  stamp="$root/.venv/.installed-$1"
  hash="$(cat "$root/requirements.txt" "$file" | sha256sum | cut -d' ' -f1)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$hash" ]; then
    # One that was broken off, or made without the system's ensurepip, has a Python but no pip.
    "$python" -m pip --version >/dev/null 2>&1 || "$(find_python)" -m venv "$root/.venv"
    echo "installing $1 into .venv (once) ..." >&2
    "$python" -m pip install --quiet --disable-pip-version-check -r "$file" >&2
    echo "$hash" >"$stamp"
  fi
}
