import platform
from pathlib import Path

import pytest

import machine


@pytest.mark.parametrize(
    ("cpuinfo", "processor", "instructions", "bfloat16"),
    [
        (
            "model name : A\nflags : fpu avx2 amx_bf16 sse\n\nmodel name : A\nflags : fpu avx2\n",
            "A",
            "avx2 amx_bf16",
            True,
        ),
        ("model name : A\nflags : fpu avx2\n", "A", "avx2", False),
        ("Features : fp asimd bf16\n", platform.machine(), "bf16", True),
        (None, platform.machine(), "unknown", False),
    ],
    ids=["AMX", "AVX2", "Arm", "not Linux"],
)
def test_the_instructions_of_a_processor_are_detected(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cpuinfo: str | None,
    processor: str,
    instructions: str,
    bfloat16: bool,
) -> None:
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    described = machine.machine()
    assert (described["processor"], described["instructions"]) == (processor, instructions)
    assert machine.has_bfloat16() == bfloat16
