from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekit.core.errors import InputError
from edgekit.zoo import weights as module_under_test
from edgekit.zoo.weights import fit_weights, read_weights, write_weights


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def test_weights_come_back_bit_by_bit(model: nn.Module, tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", model)
    found = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())


def test_a_header_length_that_starts_like_a_pickle_is_no_pickle(tmp_path: Path) -> None:
    # Safetensors pads its header to multiples of 8, so one name length in eight gives 0x80 bytes.
    for length in range(1, 80):
        path = tmp_path / "w.safetensors"
        save_file({"n" * length: torch.zeros(2)}, path)
        if path.read_bytes()[:1] == b"\x80":
            assert list(read_weights(path)) == ["n" * length]
            return
    raise AssertionError("no header of 128 bytes was made")


def test_tied_weights_can_be_written(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    write_weights(tmp_path / "w.safetensors", model)
    fit_weights(model, read_weights(tmp_path / "w.safetensors"), tmp_path)
    assert model[1].weight is model[0].weight


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_a_state_dict_saved_by_torch_is_read(
    model: nn.Module, tmp_path: Path, wrapped: bool
) -> None:
    state = model.state_dict()
    torch.save({"state_dict": state, "epoch": 3} if wrapped else state, tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt")
    assert found.keys() == state.keys()


def test_a_pickled_module_is_refused_and_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, ("raise SystemExit('ran')",))

    for name in ("w.pt", "w.bin"):
        torch.save({"weight": Bomb()}, tmp_path / name)
        with pytest.raises(InputError, match=r"would run code when opened.*Convert it"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_where_safetensors_is_expected_is_refused(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps({"a": 1}, protocol=protocol))
    with pytest.raises(InputError, match=r"found a pickle.*expected safetensors.*save_file"):
        read_weights(path)


def test_an_archive_where_safetensors_is_expected_is_refused(
    model: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    torch.save(model.state_dict(), path)
    with pytest.raises(InputError, match="found a pickle"):
        read_weights(path)


def test_a_torch_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(InputError, match="found no state dict"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_truncated_files_are_refused(model: nn.Module, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"w\.\w+ is (truncated|damaged)"):
        read_weights(path)


def test_a_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match="truncated or not safetensors"):
        read_weights(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_weights(tmp_path / "none.safetensors")


def test_large_files_and_packed_archives_are_refused_by_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_under_test, "MAX_BYTES", 10_000)
    (tmp_path / "w.safetensors").write_bytes(bytes(10_001))
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", bytes(10_001))
    for name in ("w.safetensors", "w.pt"):
        with pytest.raises(InputError, match="expected at most"):
            read_weights(tmp_path / name)


def test_missing_and_unexpected_tensors_are_named(model: nn.Module, tmp_path: Path) -> None:
    weights = dict(model.state_dict())
    weights["2.weight"] = weights.pop("0.weight")
    with pytest.raises(InputError, match=r"missing 0.weight; unexpected 2.weight"):
        fit_weights(model, weights, tmp_path / "w")


def test_only_the_first_few_names_are_listed(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing 0.weight, 0.bias, 1.weight and 4 more"):
        fit_weights(model, {}, tmp_path / "w")


def test_other_shapes_are_named(model: nn.Module, tmp_path: Path) -> None:
    weights = dict(model.state_dict()) | {"0.weight": torch.zeros(3, 5)}
    with pytest.raises(InputError, match=r"0.weight is \[3, 5\] instead of \[3, 4\]"):
        fit_weights(model, weights, tmp_path / "w")


def test_integers_where_numbers_are_expected_are_refused(model: nn.Module, tmp_path: Path) -> None:
    weights = dict(model.state_dict()) | {"0.weight": torch.zeros(3, 4, dtype=torch.int64)}
    with pytest.raises(InputError, match=r"'0.weight': found int64, expected float32"):
        fit_weights(model, weights, tmp_path / "w")


def test_half_precision_weights_are_widened(model: nn.Module, tmp_path: Path) -> None:
    weights = dict(model.state_dict())
    weights["0.weight"] = weights["0.weight"].half()
    fit_weights(model, weights, tmp_path / "w")
    assert model[0].weight.dtype is torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    model: nn.Module, tmp_path: Path, value: float
) -> None:
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["0.weight"][1, 2] = value
    with pytest.raises(InputError, match=r"'0.weight': found 1 of 12 values NaN or infinite"):
        fit_weights(model, weights, tmp_path / "w")
