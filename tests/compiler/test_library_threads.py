from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.compiler.aot.codegen import NATIVE
from edgekit.compiler.build_library import CompileJob, Watch, build_library, read_model
from edgekit.compiler.session import open_session, run_session
from edgekit.core.target import load_target
from tests.compiler import onnx_models
from tests.compiler.c_library import CLibrary

MAX_THREADS = 5
SHAPE = (1, 1, 14, 14)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with kernels of ours, one of TVM's, and scratch of both kinds."""
    folder = tmp_path_factory.mktemp("threads")
    for name in ("work", "out"):
        (folder / name).mkdir()
    onnx.save(onnx_models.residual_cnn(), folder / "model.onnx")
    job = CompileJob(
        onnx_path=str(folder / "model.onnx"),
        out=str(folder / "out"),
        target=load_target("host"),
        max_threads=MAX_THREADS,
        winograd="f4",
    )
    watch = Watch(phase=lambda _: None, detail=lambda _: None)
    build_library(job, read_model(job, watch), folder / "work", watch)
    return folder / "out" / "libmodel.so"


def image(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"image": rng.standard_normal(SHAPE).astype(np.float32)}


def only(outputs: dict[str, np.ndarray]) -> np.ndarray:
    (array,) = outputs.values()
    return array


def test_number_of_threads_changes_no_bit(library: Path) -> None:
    model = CLibrary(library)
    expected = only(model.run(image()))
    for count in (2, MAX_THREADS, 3, 1, MAX_THREADS):
        assert model.model.set_threads(count) == count
        for _ in range(20):
            np.testing.assert_array_equal(only(model.run(image())), expected)
    assert model.model.set_threads(1) == 1


def test_threads_stay_within_what_the_workspace_holds(library: Path) -> None:
    model = CLibrary(library)
    assert model.model.set_threads(MAX_THREADS + 100) == MAX_THREADS
    assert model.model.set_threads(0) == 1


def test_idle_threads_sleep(library: Path) -> None:
    model = CLibrary(library)
    before = threads()
    model.model.set_threads(MAX_THREADS)
    model.run(image())
    workers = threads() - before
    assert len(workers) == MAX_THREADS - 1
    for _ in range(500):
        states = {state_of(worker) for worker in workers}
        if states == {"S"}:
            break
        time.sleep(0.01)
    model.model.set_threads(1)
    assert states == {"S"}


def threads() -> set[Path]:
    return set(Path("/proc/self/task").iterdir())


def state_of(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def test_child_of_a_fork_computes_on_its_own_thread(library: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from tests.compiler.c_library import CLibrary
from tests.compiler.test_library_threads import image, only
model = CLibrary(Path(sys.argv[1]))
model.model.set_threads(3)
expected = only(model.run(image()))
child = os.fork()
same = (only(model.run(image())) == expected).all()
if child == 0:
    same &= model.model.set_threads(2) == 2 and (only(model.run(image())) == expected).all()
    sys.exit(0 if same else 1)
_, status = os.waitpid(child, 0)
sys.exit(0 if same and status == 0 else 1)
"""
    root = str(Path(__file__).parents[2])
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(library)],
        cwd=root,
        check=True,
        timeout=60,
    )


def test_library_can_be_unloaded_while_its_threads_wait(library: Path) -> None:
    model = CLibrary(library)
    handle = model.library._handle
    model.model.set_threads(3)
    model.run(image())
    before = len(threads())
    unload = ctypes.CDLL(None).dlclose
    unload.argtypes = [ctypes.c_void_p]
    for _ in range(1000):  # as often as the tests before have opened it
        if len(threads()) < before:
            break
        unload(handle)
    assert len(threads()) == before - 2


def test_tvm_runtime_runs_the_model_by_its_packed_entry(library: Path) -> None:
    tvm = pytest.importorskip("tvm")
    expected = only(
        run_session(open_session(onnx_models.residual_cnn(), optimization="off"), image())
    )
    run = tvm.runtime.load_module(str(library))["model_run"]
    x, y = tvm.runtime.tensor(image()["image"]), tvm.runtime.empty(expected.shape, "float32")
    run(x, y)
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(ValueError, match="wrong shape"):
        run(y, x)
    with pytest.raises(ValueError, match="wrong dtype"):
        run(tvm.runtime.empty(SHAPE, "float64"), y)
    with pytest.raises(ValueError, match="inputs and then its outputs"):
        run(x)


POOL = """
#include <stdlib.h>
#include <string.h>
#include "ek_pool.h"
enum { ITEMS = 300 };
static atomic_int done[ITEMS];
static int work(void *const *arguments, uint8_t *scratch, int32_t begin, int32_t end) {
  scratch[0]++;
  for (int32_t i = begin; i < end; i++) atomic_fetch_add(&done[i], 1);
  for (volatile int wait = begin % 7 ? 0 : 1000; wait; wait--) ;
  return *(int *)arguments[0] && begin == 0 ? 3 : 0;
}
int main(void) {
  static uint8_t scratch[64 * EK_MAX_THREADS];
  int failing;
  void *arguments[] = {&failing};
  for (int round = 0; round < 5000; round++) {
    const int wanted = 1 + rand() % EK_MAX_THREADS;
    if (round % 97 == 0 && pool_resize(wanted) != wanted) return 1;
    if (round % 1009 == 0) usleep(3000); /* let them fall asleep */
    memset(done, 0, sizeof done);
    failing = round % 11 == 0;
    const pool_job_t job = {work, arguments, scratch, 64, 1 + rand() % ITEMS};
    if (pool_run(&job) != (failing ? 3 : 0)) return 2;
    for (int i = 0; i < ITEMS; i++)
      if (done[i] != (i < job.num_items)) return 3;
  }
  return 0;
}
"""


def test_every_item_is_computed_once_and_failures_arrive(tmp_path: Path) -> None:
    (tmp_path / "pool.c").write_text(POOL)
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", f"-I{NATIVE}", "pool.c", "-lpthread"]
    subprocess.run([*command, "-o", "pool"], cwd=tmp_path, check=True, timeout=120)
    assert subprocess.run([tmp_path / "pool"], timeout=120, check=False).returncode == 0
