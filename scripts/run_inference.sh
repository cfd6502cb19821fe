#!/usr/bin/env bash
# Answer recordings offline; every option is passed to bin/inference.py.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
install_requirements requirements.txt
exec "$python" "$root/bin/inference.py" "$@"
