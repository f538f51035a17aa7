"""The properties of this machine that decide the last bits of a result. Needs Python only."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# The instructions of a processor decide which code computes its sums, and so in which order.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_tile", "sve", "bf16")
VARIABLES = ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "TF_NUM_INTRAOP_THREADS")


def machine() -> dict[str, str]:
    """Describe the processor, the cores that this process may use, and the variables that change the arithmetic."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    features = _features()
    return {
        "cores": str(cores),
        "processor": next(iter(_described("model name")), platform.machine()),
        "instructions": " ".join(name for name in INSTRUCTIONS if name in features) or "unknown",
        **{name: os.environ.get(name, "unset") for name in VARIABLES},
    }


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16: AMX, AVX512_BF16 or Arm's BF16."""
    return not _features().isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})


def _features() -> set[str]:
    lines = _described("flags") + _described("Features")  # on x86 and on Arm
    return set(lines[0].split()) if lines else set()


def _described(key: str) -> list[str]:
    """Return the values of a key in Linux's description of the processor, one per core; elsewhere none."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    return [value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key]
