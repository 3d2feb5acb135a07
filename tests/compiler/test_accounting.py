from __future__ import annotations

import pytest

from edgekit.compiler.accounting import Kind, Operator, OperatorCount, count_operators


def op(kind: Kind, reads: str, writes: str, *, integer: bool = False) -> Operator:
    return Operator(
        name=f"{kind} {writes}",
        kind=kind,
        reads=tuple(reads.split()),
        writes=tuple(writes.split()),
        is_integer=integer,
    )


CONSTANTS = {"w8", "w32", "bias", "scale"}
QUANTIZED_CONV = [
    op("dequantize", "x8 scale", "x"),
    op("dequantize", "w8 scale", "w"),
    op("product", "x w bias", "y"),
    op("transparent", "y", "r"),
    op("quantize", "r scale", "y8"),
]


def count(*operators: Operator) -> OperatorCount:
    return count_operators(operators, CONSTANTS)


def test_quantized_product_on_floats_is_held_against_the_engine() -> None:
    result = count(*QUANTIZED_CONV)
    assert (result.integer_ops, result.float_ops) == (0, 1)
    assert result.float_as_quantized == ("product y",)
    assert result.disqualification() == (
        "runs int8 as float: 1 of 1 compute operators take float tensors"
    )


def test_integer_product_is_counted_as_such() -> None:
    result = count(op("product", "x8 w8 bias", "y8", integer=True))
    assert (result.integer_ops, result.float_ops) == (1, 0)
    assert result.disqualification() is None


def test_product_the_model_keeps_in_float_is_no_fault() -> None:
    # Its input was dequantized, its weights were never quantized: an ignored layer.
    result = count(op("dequantize", "x8 scale", "x"), op("product", "x w32", "y"))
    assert result.float_ops == 1
    assert result.disqualification() is None


def test_weights_stay_quantized_through_a_transposition() -> None:
    result = count(
        op("dequantize", "x8 scale", "x"),
        op("dequantize", "w8 scale", "w"),
        op("transparent", "w", "wt"),
        op("product", "x wt", "y"),
    )
    assert result.float_as_quantized == ("product y",)


def test_addition_between_quantized_tensors_counts() -> None:
    result = count(
        op("dequantize", "a8 scale", "a"),
        op("dequantize", "b8 scale", "b"),
        op("arithmetic", "a b", "s"),
        op("transparent", "s", "r"),
        op("quantize", "r scale", "s8"),
    )
    assert result.float_as_quantized == ("arithmetic s",)


def test_addition_whose_result_stays_float_is_no_fault() -> None:
    result = count(
        op("dequantize", "a8 scale", "a"),
        op("dequantize", "b8 scale", "b"),
        op("arithmetic", "a b", "s"),
        op("other", "s", "out"),
    )
    assert result.float_ops == 1
    assert result.disqualification() is None


def test_bias_is_part_of_its_product() -> None:
    result = count(op("product", "x w32", "y"), op("arithmetic", "y bias", "z"))
    assert result.float_ops == 1


def test_work_on_constants_is_no_work() -> None:
    result = count(op("product", "w32 w32", "folded"), op("arithmetic", "folded bias", "z"))
    assert result.float_ops == 0


def test_average_is_counted_and_never_held_against_an_engine() -> None:
    result = count(
        op("dequantize", "x8 scale", "x"), op("average", "x", "m"), op("quantize", "m scale", "m8")
    )
    assert result.float_ops == 1
    assert result.disqualification() is None


@pytest.mark.parametrize("num_integer", [0, 1, 3])
def test_reason_counts_what_should_be_integer(num_integer: int) -> None:
    integers = [op("product", f"x{i} w8", f"i{i}", integer=True) for i in range(num_integer)]
    reason = count(*integers, *QUANTIZED_CONV).disqualification()
    assert reason is not None
    assert f"1 of {num_integer + 1} compute operators" in reason
