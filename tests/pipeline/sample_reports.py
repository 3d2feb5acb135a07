"""Build reports as the stages leave them, for the tests of every report format."""

from __future__ import annotations

from edgekit.core.metric import Metric
from edgekit.core.report import (
    BuildReport,
    DeviceReport,
    EngineReport,
    Latency,
    Mismatch,
    Parity,
    StageReport,
    Verdict,
)


def stage(
    label: str,
    top_1: float | None,
    num_bytes: int,
    *,
    macs: float = 0,
    seconds: float | None = None,
    kind: str = "torch",
    warnings: tuple[str, ...] = (),
    extra: tuple[Metric, ...] = (),
) -> StageReport:
    metrics = [Metric("size_bytes", num_bytes, "bytes", "lower")] if num_bytes else []
    if top_1 is not None:
        metrics.insert(0, Metric("top-1", top_1, "", "higher"))
    if macs:
        metrics += [
            Metric("macs", macs, "", "lower"),
            Metric("params", num_bytes // 4, "", "lower"),
        ]
    return StageReport(
        name=label.split("-")[0],
        label=label,
        key=label * 3,
        status="cached" if seconds is None else "ran",
        payload=f"payload-{label}",
        kind=kind,
        size_bytes=num_bytes,
        duration_s=seconds,
        metrics=(*metrics, *extra),
        warnings=warnings,
    )


STAGES = (
    stage("model", None, 311_540, macs=12_501_632),
    stage("train", 0.9172, 311_540, macs=12_501_632, seconds=252.4),
    stage("prune", 0.9148, 84_360, macs=6_122_410, seconds=131.07),
    stage("export", 0.9148, 89_022, kind="onnx"),
    stage(
        "quantize",
        0.9130,
        31_260,
        seconds=8.113,
        kind="onnx",
        warnings=("observer min-max saw 3 dead channels in 'layer2.conv1'",),
        extra=(Metric("snr_db", 31.25, "dB", "higher"),),
    ),
    stage("compile", None, 0, seconds=21.6, kind="compiled"),
    stage("profile", None, 0, seconds=12.5, kind="compiled"),
)


def emulated() -> BuildReport:
    """A build for a board that was emulated: one engine disqualified, one budget not measured."""
    return BuildReport(
        recipe="fashion-mnist-resnet",
        target="rpi4",
        stages=STAGES,
        metric="top-1",
        engines=(
            EngineReport(
                engine="tvm",
                size_bytes=131_072,
                disqualified="runs int8 as float: 12 of 14 operators compute in float32",
                integer_ops=2,
                float_ops=12,
                equals_host=True,
                notes=("4 convolutions by Winograd: weights of 0.6 MiB instead of 0.3 MiB",),
                parity=Parity(snr_db=None, max_abs=0.0, top1_agreement=1.0, bit_exact=True),
                accuracy=Metric("top-1", 0.912, "", "higher"),
                num_images=500,
                instructions_m=61.24,
            ),
            EngineReport(
                engine="onnxruntime",
                size_bytes=86_016,
                integer_ops=14,
                parity=Parity(snr_db=38.21, max_abs=0.0625, top1_agreement=0.998),
                accuracy=Metric("top-1", 0.914, "", "higher"),
                num_images=500,
                instructions_m=48.2,
                selected=True,
            ),
        ),
        selected="onnxruntime",
        selected_by="order",
        device=DeviceReport(
            runner="emulated:rpi4", kind="emulated", cpu_model="cortex-a72", cores=4, os="Debian 12"
        ),
        verdicts=(
            Verdict(name="top-1.max_drop", status="passed", limit=0.01, found=0.0042),
            Verdict(name="size_mib", status="passed", limit=1.0, found=86_016 / 2**20, unit="MiB"),
            Verdict(
                name="latency_ms.p50",
                status="not measured",
                limit=20.0,
                unit="ms",
                reason="the device is emulated",
            ),
        ),
        mismatches=(
            Mismatch(engine="onnxruntime", index=211, host=6, device=0, label=6),
            Mismatch(engine="onnxruntime", index=432, host=4, device=2, label=2),
        ),
        output="dist/rpi4",
        created="2025-11-21T10:52:07+00:00",
        wall_s=425.7,
    )


def measured() -> BuildReport:
    """A build measured on a real machine: engines raced by latency, one budget missed."""
    return BuildReport(
        recipe="quickstart",
        target="x86-64-v4-vnni",
        stages=(
            stage("train", 0.9611, 45_312, macs=410_112, seconds=11.2),
            stage("export", 0.9611, 48_120, seconds=2.8, kind="onnx"),
            stage("quantize", 0.9583, 14_808, seconds=0.913, kind="onnx"),
            stage("compile", None, 0, seconds=9.6, kind="compiled"),
            stage("profile", None, 0, seconds=1.3, kind="compiled"),
        ),
        metric="top-1",
        engines=(
            EngineReport(
                engine="onnxruntime",
                size_bytes=15_872,
                integer_ops=9,
                parity=Parity(snr_db=41.0, max_abs=0.03, top1_agreement=1.0),
                accuracy=Metric("top-1", 0.9583, "", "higher"),
                num_images=360,
                latency=Latency(
                    p50_ms=0.1482,
                    p90_ms=0.1711,
                    p99_ms=0.2219,
                    min_ms=0.1413,
                    num_runs=50,
                    num_threads=2,
                ),
                peak_rss_mib=61.3,
            ),
            EngineReport(
                engine="tvm",
                size_bytes=58_368,
                integer_ops=9,
                parity=Parity(snr_db=None, max_abs=0.0, top1_agreement=1.0, bit_exact=True),
                accuracy=Metric("top-1", 0.9583, "", "higher"),
                num_images=360,
                latency=Latency(
                    p50_ms=0.0631,
                    p90_ms=0.0702,
                    p99_ms=0.0917,
                    min_ms=0.0610,
                    num_runs=50,
                    num_threads=2,
                ),
                peak_rss_mib=4.9,
                selected=True,
            ),
        ),
        selected="tvm",
        selected_by="latency",
        device=DeviceReport(
            runner="local:",
            kind="local",
            cpu_model="Xeon Gold 6430",
            cores=2,
            os="Debian 12",
            measured="2025-11-21T11:20:31+00:00",
        ),
        verdicts=(
            Verdict(name="top-1.max_drop", status="passed", limit=0.01, found=0.0028),
            Verdict(name="top-1.min", status="passed", limit=0.95, found=0.9583),
            Verdict(name="size_mib", status="missed", limit=0.05, found=58_368 / 2**20, unit="MiB"),
            Verdict(name="latency_ms.p50", status="passed", limit=0.1, found=0.0631, unit="ms"),
        ),
        warnings=("the CPU's clock is not fixed: governor is 'ondemand'",),
        output="dist/x86-64-v4-vnni",
        created="2025-11-21T11:20:40+00:00",
        wall_s=26.1,
    )


HOSTILE = "<script>alert(1)</script>\"'&[red]|`\x1b[31m\u202e\nx"


def hostile() -> BuildReport:
    """A report in which every foreign text tries to be markup."""
    return BuildReport(
        recipe=HOSTILE,
        target=HOSTILE,
        stages=(
            StageReport(
                name=HOSTILE,
                label=HOSTILE,
                key="k",
                status="ran",
                payload="p",
                kind="onnx",
                size_bytes=10,
                duration_s=1.0,
                metrics=(
                    Metric(HOSTILE, 0.5, HOSTILE, "higher"),
                    Metric("size_bytes", 10, "bytes", "lower"),
                    Metric(HOSTILE * 2, 3.5, HOSTILE, "none"),
                ),
                warnings=(HOSTILE,),
                details={HOSTILE: HOSTILE},
            ),
            StageReport(
                name=HOSTILE,
                label=HOSTILE + "2",
                key="k2",
                status="cached",
                payload="p2",
                kind="onnx",
                size_bytes=10,
                metrics=(
                    Metric(HOSTILE, 0.4, HOSTILE, "higher"),
                    Metric("size_bytes", 9, "bytes", "lower"),
                ),
            ),
        ),
        metric=HOSTILE,
        engines=(
            EngineReport(engine=HOSTILE, size_bytes=3, disqualified=HOSTILE),
            EngineReport(engine=HOSTILE + "2", size_bytes=3, instructions_m=2.0),
        ),
        selected=HOSTILE + "2",
        selected_by="order",
        device=DeviceReport(runner=HOSTILE, kind="local", cpu_model=HOSTILE, os=HOSTILE),
        verdicts=(
            Verdict(
                name=HOSTILE, status="missed", limit=1.0, found=2.0, unit=HOSTILE, reason=HOSTILE
            ),
        ),
        mismatches=(Mismatch(engine=HOSTILE, index=0, host=1, device=2, label=3),),
        warnings=(HOSTILE,),
        output=HOSTILE,
    )
