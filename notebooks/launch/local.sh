#!/usr/bin/env bash
# This machine: two ranks on a CPU, or RANKS=8 for eight GPUs. A dead rank restarts all, three times.
set -euo pipefail

torchrun --standalone --nproc-per-node "${RANKS:-2}" --max-restarts 3 \
    -m cookbook.scaling.job --rows rows.npz --output run --model docbert --strategy ddp \
    --steps 2000 --batch-size 256 --save-every 100 --not-finite skip
