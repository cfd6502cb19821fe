# Sourced by the other scripts: finds a Python, makes .venv and installs a requirements file once per content.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

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
  local file="$1" stamp hash
  [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
  stamp=".venv/.installed-$(basename "$file")"
  hash="$(cat requirements.txt "$file" | sha256sum | cut -d' ' -f1)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$hash" ]; then
    echo "installing $file into .venv (once) ..." >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$file" >&2
    echo "$hash" >"$stamp"
  fi
}
