from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgekit.compiler.aot.toolchain import toolchain_for
from edgekit.compiler.onnx_file import specialise
from edgekit.compiler.regions.fusion import fuse, simplify
from edgekit.compiler.regions.importer import import_onnx
from edgekit.compiler.regions.kernel_schedule import choose_tile, schedule_kernel
from edgekit.core.target import Cpu, Os, Target
from tests.compiler import onnx_models

extents = st.integers(1, 400)


@given(extents, extents, st.sampled_from([4, 8, 16]), st.sampled_from([12, 24]), st.booleans())
def test_tile_divides_its_axes_and_fits_the_registers(
    rows: int, columns: int, lanes: int, max_vectors: int, has_rows: bool
) -> None:
    tile = choose_tile(
        (0 if has_rows else None, rows), (1, columns), lanes=lanes, max_vectors=max_vectors
    )
    if tile is None:
        return
    assert columns % (tile.width * tile.num_vectors) == 0
    assert rows % tile.num_rows == 0 or not has_rows
    assert tile.num_rows == 1 or tile.row_axis == 0
    assert tile.num_rows * tile.num_vectors * -(-tile.width // lanes) <= max_vectors


@given(extents, st.sampled_from([4, 8, 16]))
def test_whole_vectors_are_used_whenever_they_divide(columns: int, lanes: int) -> None:
    tile = choose_tile((None, 1), (0, columns * lanes), lanes=lanes, max_vectors=12)
    assert tile is not None
    assert tile.width == lanes


def test_no_vector_for_a_large_prime() -> None:
    assert choose_tile((0, 8), (1, 149), lanes=8, max_vectors=12) is None


def test_products_get_vectors_and_movement_keeps_its_loops() -> None:
    import tvm

    cpu = Cpu(isa="x86_64", core="x86-64-v3", features=("avx2", "fma"))
    toolchain = toolchain_for(Target(name="t", cpu=cpu, os=Os(triple="x86_64-linux-gnu")))
    model = specialise(onnx_models.residual_cnn())
    module = simplify(import_onnx(model))
    module = fuse(module, tvm.target.Target(toolchain.llvm))

    kernels = {
        str(variable.name_hint): schedule_kernel(function, lanes=8, num_registers=16)
        for variable, function in module.functions.items()
        if isinstance(function, tvm.tirx.PrimFunc)
    }
    scripts = {name: kernel.script() for name, kernel in kernels.items()}
    products = [name for name in scripts if "conv2d" in name or "matmul" in name]
    assert len(products) == 6
    assert all("T.vectorized" in scripts[name] for name in products)
