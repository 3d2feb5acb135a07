"""Run a module of this package in a process of its own: a job goes in and an answer comes out.

Each measurement needs a fresh process: memory and start-up are those of one engine, threads are
pinned, and a crash costs one row.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TypeVar

import msgspec

Answer = TypeVar("Answer")


class ChildError(Exception):
    """Say how a measurement's process ended when it gave no answer."""


class Child:
    """A process that was started.

    Args:
        module: Such as `bench.cpu.jobs.timing`; its main takes the job and prints the answer.
        job: A struct.
        environment: Added to this process's own.
    """

    def __init__(
        self, module: str, job: msgspec.Struct, environment: dict[str, str] | None = None
    ) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, msgspec.json.encode(job).decode()],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self, kind: type[Answer]) -> Answer:
        """Wait for the answer, the last line of what it prints.

        Raises:
            ChildError: It ended without one.
        """
        output, messages = self._process.communicate()
        if self._process.returncode or not output.strip():
            status = self._process.returncode
            raise ChildError(f"{self._module} ended with {status}: {messages.strip()[-600:]}")
        return msgspec.json.decode(output.splitlines()[-1], type=kind)


def reply(answer: object) -> None:
    """Print an answer."""
    print(msgspec.json.encode(answer).decode(), flush=True)
