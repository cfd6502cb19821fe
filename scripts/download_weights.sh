#!/usr/bin/env bash
# Fetch the official Freeze-Omni checkpoint and its LLM from Hugging Face into checkpoints/freeze-omni (about 17 GB).
# Mind their licences: they are not part of this repository.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
install_requirements requirements.txt
target="${1:-$root/checkpoints/freeze-omni}"
"$root/.venv/bin/hf" download VITA-MLLM/Freeze-Omni --local-dir "$target"
"$root/.venv/bin/hf" download Qwen/Qwen2-7B-Instruct --local-dir "$target/llm"
echo "start it with: bash scripts/run_demo_server.sh --checkpoint $target/checkpoints --llm $target/llm --device cuda"
