#!/usr/bin/env bash
# All that matters on a GPU, in under 8 minutes: attention through posjax against cuDNN, whole biases and FlexAttention.
# Needs jax for that GPU; torch is optional; nothing else of posjax's libraries. PYTHON names another interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
# Two frameworks share the device's memory.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
exec "${PYTHON:-python3}" -m experiments.benchmarks.gpu "$@"
