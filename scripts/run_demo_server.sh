#!/usr/bin/env bash
# Start the server on the shipped model; every option is passed to bin/server.py.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
install_requirements requirements.txt
exec "$python" "$root/bin/server.py" "$@"
