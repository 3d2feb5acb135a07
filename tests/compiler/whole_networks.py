"""Compile several models as one library or program and run it, here or on an emulated board."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import compose

from edgekit.compiler.build_library import CompileJob, Watch, build_library, read_model
from edgekit.compiler.engine_build import EngineBuild
from edgekit.compiler.graph.operators import Network
from edgekit.compiler.onnx_file import specialise
from edgekit.core.target import load_target
from edgekit.devices.emulation.qemu import find_qemu
from edgekit.devices.library import CompiledLibrary
from tests.compiler.random_models import random_model
from tests.compiler.random_quantized import quantized_randomly

Arrays = dict[str, np.ndarray]


def float_model(seed: int) -> onnx.ModelProto:
    """A random float model of fixed shapes."""
    return specialise(random_model(seed)[0])


def quantized_model(seed: int) -> onnx.ModelProto:
    """The same in QDQ form."""
    return specialise(quantized_randomly(*random_model(seed), seed))


def merged(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    """Put models side by side: one compilation and one link for all of them."""
    parts = [compose.add_prefix(model, f"m{number}_").graph for number, model in enumerate(models)]
    whole = onnx.ModelProto()
    whole.CopyFrom(models[0])
    whole.graph.Clear()
    whole.graph.name = "side_by_side"
    for part in parts:
        whole.graph.node.extend(part.node)
        whole.graph.initializer.extend(part.initializer)
        whole.graph.input.extend(part.input)
        whole.graph.output.extend(part.output)
    return specialise(whole)


def random_inputs(network: Network, seed: int = 0) -> Arrays:
    """Draw standard normal values for every input."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal(network.tensors[name].shape).astype(np.float32)
        for name in network.inputs
    }


def compile_model(
    model: onnx.ModelProto, folder: Path, *, target: str = "host", program: bool = False
) -> EngineBuild:
    """Compile to `folder`/out, in this process."""
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    job = CompileJob(
        onnx_path=str(folder / "model.onnx"),
        out=str(folder / "out"),
        target=load_target(target),
        static_library=False,
        static_program=program,
        winograd="off",
    )
    watch = Watch(phase=lambda _: None, detail=lambda _: None)
    return build_library(job, read_model(job, watch), folder / "work", watch)


def run_here(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], folder: Path) -> Arrays:
    """Compile for this computer and run once."""
    built = compile_model(model, folder)
    return CompiledLibrary(folder / "out" / built.library).run_one(inputs)


def run_emulated(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], folder: Path, target: str
) -> Arrays:
    """Compile a static program for a board and run it in the emulator."""
    built = compile_model(model, folder, target=target, program=True)
    command = [str(find_qemu().path), "-cpu", load_target(target).cpu.core]
    files = [folder / "out" / "model"]
    for number, spec in enumerate(built.inputs):
        files.append(folder / f"in{number}")
        np.ascontiguousarray(inputs[spec.name], spec.dtype).tofile(files[-1])
    sinks = [folder / f"out{number}" for number in range(len(built.outputs))]
    subprocess.run([*command, *map(str, [*files, *sinks])], check=True, capture_output=True)
    return {
        spec.name: np.fromfile(sink, spec.dtype).reshape([size or 1 for size in spec.shape])
        for spec, sink in zip(built.outputs, sinks, strict=True)
    }
