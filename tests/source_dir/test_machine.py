import platform

import pytest

import machine


@pytest.mark.parametrize(
    ("cpuinfo", "instructions", "bfloat16"),
    [
        ({"model name": ["A"], "flags": ["fpu avx2 amx_bf16 sse"] * 2}, "avx2 amx_bf16", True),
        ({"model name": ["A"], "flags": ["fpu avx2"]}, "avx2", False),
        ({"Features": ["fp asimd bf16"]}, "bf16", True),
        ({}, "unknown", False),
    ],
)
def test_the_instructions_of_a_processor_are_detected(
    monkeypatch: pytest.MonkeyPatch, cpuinfo: dict[str, list[str]], instructions: str, bfloat16: bool
) -> None:
    monkeypatch.setattr(machine, "_described", lambda key: cpuinfo.get(key, []))
    described = machine.machine()
    assert (described["instructions"], machine.has_bfloat16()) == (instructions, bfloat16)
    assert described["processor"] == cpuinfo.get("model name", [platform.machine()])[0]
