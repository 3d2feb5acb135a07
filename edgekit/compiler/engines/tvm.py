"""Compile a model ahead of time to one plain C library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from edgekit.core.options import Meta, Options

if TYPE_CHECKING:
    from edgekit.compiler.engine_build import EngineBuild
    from edgekit.core.progress import Progress
    from edgekit.core.target import Target


class Tvm(Options, frozen=True):
    """Compile to one plain C library through TVM and LLVM; nothing of TVM is on the device."""

    packages: ClassVar[tuple[tuple[str, str], ...]] = (("tvm", "tvm"), ("ziglang", "tvm"))

    name: Annotated[
        str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", description="Prefix of the C symbols")
    ] = "model"
    static_library: Annotated[bool, Meta(description="Also keep libNAME.a, for embedding")] = True
    static_program: Annotated[
        bool, Meta(description="Also link the model as a program of its own, named like it")
    ] = False
    max_threads: Annotated[int, Meta(ge=1, le=64, description="Threads a run may use")] = 8
    winograd: Annotated[
        Literal["auto", "off", "f2", "f4"],
        Meta(description="Fast float convolutions: quicker, larger"),
    ] = "auto"
    size_limit_mib: (
        Annotated[float, Meta(gt=0, description="What the library may take: auto keeps to it")]
        | None
    ) = None
    tile_candidate: Annotated[
        int, Meta(ge=0, description="Which tile of the analytic order; for `edgekit tune`")
    ] = 0
    timeout_s: Annotated[int, Meta(ge=1, description="Seconds the compiler may take")] = 1800
    memory_limit_mib: Annotated[
        int, Meta(ge=1024, description="Address space the compiler may take")
    ] = 8192

    def build(
        self, onnx_path: Path, out: Path, target: Target, *, progress: Progress
    ) -> EngineBuild:
        """Compile `onnx_path` with a batch of 1.

        Args:
            onnx_path: The model.
            out: Empty folder; receives the libraries, headers, an example and `engine.json`.
            target: What to compile for.
            progress: Shown every phase.

        Returns:
            What was built.

        Raises:
            InputError: The model or the target cannot be compiled, or a package is missing.
            StageError: The compiler crashed, ran out of time or memory, or broke a promise.
        """
        from edgekit.compiler.build_library import CompileJob
        from edgekit.compiler.engine_build import write_engine_build
        from edgekit.compiler.supervise import compile_in_child

        out.mkdir(parents=True, exist_ok=True)
        job = CompileJob(
            onnx_path=str(onnx_path.absolute()),
            out=str(out.absolute()),
            target=target,
            name=self.name,
            static_library=self.static_library,
            static_program=self.static_program,
            max_threads=self.max_threads,
            winograd=self.winograd,
            size_limit_mib=self.size_limit_mib,
            tile_candidate=self.tile_candidate,
            memory_limit_mib=self.memory_limit_mib,
        )
        build = compile_in_child(job, timeout_s=self.timeout_s, progress=progress)
        write_engine_build(build, out)
        return build
