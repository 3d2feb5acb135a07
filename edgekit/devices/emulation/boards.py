"""Boards that can be emulated: their core, and what Linux says about the processor there.

ONNX Runtime's CPU detection reads /proc/cpuinfo and crashes when it finds an x86 processor there,
so an emulated board needs its own.

Source of the figures: Arm's main-ID register values for the cores, Linux's hardware capabilities
in /proc/cpuinfo of the boards.
"""

from __future__ import annotations

from typing import NamedTuple

from edgekit.core.errors import InputError
from edgekit.core.target import Target


class Board(NamedTuple):
    """Describe a board; `features` in Linux's words."""

    core: str
    model: str
    features: str
    variant: int
    part: int
    revision: int
    clock: str

    def cpuinfo(self, cores: int) -> str:
        """Return the text of /proc/cpuinfo."""
        one = (
            f"BogoMIPS\t: {self.clock}\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: {self.variant:#x}\nCPU part\t: {self.part:#x}\n"
            f"CPU revision\t: {self.revision}\n\n"
        )
        listed = "".join(f"processor\t: {core}\n{one}" for core in range(cores))
        return f"{listed}Model\t\t: {self.model}\n"


BOARDS = {
    board.core: board
    for board in (
        Board(
            core="cortex-a72",
            model="Raspberry Pi 4 Model B",
            features="fp asimd evtstrm crc32 cpuid",
            variant=0,
            part=0xD08,
            revision=3,
            clock="108.00",
        ),
        Board(
            core="cortex-a76",
            model="Raspberry Pi 5 Model B",
            features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid "
            "asimdrdm lrcpc dcpop asimddp",
            variant=4,
            part=0xD0B,
            revision=1,
            clock="108.00",
        ),
    )
}
"""Board by core, as LLVM and qemu both name it."""


def board_of(target: Target) -> Board:
    """Return the board that stands for a target.

    Raises:
        InputError: The target is no 64-bit Arm Linux, or has a core that cannot be emulated.
    """
    doing = f"emulating target '{target.name}'"
    if target.os.triple != "aarch64-linux-gnu":
        raise InputError(doing, found=f"system {target.os.triple}", expected="aarch64-linux-gnu")
    board = BOARDS.get(target.cpu.core)
    if board is None:
        raise InputError(doing, found=f"core {target.cpu.core}", expected=" or ".join(BOARDS))
    return board
