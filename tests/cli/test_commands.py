"""The command line: light start, exact help, exit codes, and answers to what a user gets wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import msgspec
import pytest

FRAMEWORKS = (
    "numpy torch onnx onnxruntime tvm sklearn scipy transformers optimum neural_compressor "
    "torch_pruning torchao PIL"
)
GOLDEN = Path(__file__).parent / "golden"
COMMANDS = (
    "build",
    "cache",
    "compare",
    "device",
    "init",
    "list",
    "plan",
    "profile",
    "schema",
    "show",
    "verify",
)


def edgekit(
    *arguments: str, cwd: Path, store: Path | None = None, check: int | None = 0
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "EDGEKIT_STORE": str(store or cwd / "store"),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


def loaded_frameworks(cwd: Path, arguments: list[str]) -> list[str]:
    code = (
        "import sys\n"
        "from edgekit.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        f"print('LOADED', [m for m in '{FRAMEWORKS}'.split() if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, "EDGEKIT_STORE": str(cwd / "store")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    line = done.stdout.strip().splitlines()[-1]
    assert line.startswith("LOADED "), done.stdout
    found: list[str] = json.loads(line.removeprefix("LOADED ").replace("'", '"'))
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["build", "--help"],
        ["plan", "-r", "quickstart", "-t", "rpi4", "-t", "host"],
        ["list", "stages"],
        ["show", "prune"],
        ["schema", "recipe"],
        ["cache", "ls"],
    ],
)
def test_command_loads_no_framework(tmp_path: Path, arguments: list[str]) -> None:
    assert loaded_frameworks(tmp_path, arguments) == []


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_the_golden_one(
    tmp_path: Path, command: str, request: pytest.FixtureRequest
) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    text = edgekit(*arguments, cwd=tmp_path).stdout
    golden = GOLDEN / f"{command or 'edgekit'}.txt"
    if request.config.getoption("--rewrite-golden"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_every_command_has_a_golden_help() -> None:
    names = {path.stem for path in GOLDEN.glob("*.txt") if not path.stem.startswith("plan-")}
    assert names == {"edgekit", *COMMANDS}


@pytest.mark.parametrize(
    "recipe", ["quickstart", "fashion-mnist-resnet", "fashion-mnist-mobilenet"]
)
def test_plan_is_the_golden_one(
    tmp_path: Path, recipe: str, golden: Callable[[str, str], None]
) -> None:
    text = edgekit("plan", "-r", recipe, "-t", "rpi4", "-t", "rpi5", cwd=tmp_path).stdout
    # Keys change with every line of code; that they do is tested elsewhere.
    text = re.sub(r"\b[0-9a-f]{12}\b", "<key>", text)
    golden(f"plan-{recipe}.txt", re.sub(r": /.*/(recipes|targets)/", r": <shipped>/\1/", text))


def test_plan_lists_stages_and_what_they_share(tmp_path: Path) -> None:
    done = edgekit("plan", "-r", "quickstart", "-t", "rpi4", "-t", "host", "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)
    labels = ["model", "train", "prune", "export", "quantize", "compile", "profile"]
    assert [[stage["label"] for stage in row["stages"]] for row in rows] == [labels, labels]
    shared = [stage["label"] for stage in rows[0]["stages"] if stage["shared_with"] == ["host"]]
    assert shared == labels[:5]
    assert {stage["status"] for stage in rows[0]["stages"]} == {"run"}


def test_plan_runs_nothing_and_is_the_same_twice(tmp_path: Path) -> None:
    first = edgekit("plan", "-r", "quickstart", cwd=tmp_path).stdout
    assert edgekit("build", "-r", "quickstart", "--dry-run", cwd=tmp_path).stdout == first
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["biuld"], "unknown command 'biuld'. Did you mean 'build'?"),
        (["build", "-t", "rpi44", "-r", "quickstart"], "unknown target 'rpi44'"),
        (["build", "-r", "quikstart"], "Did you mean 'quickstart'?"),
        (["build"], "edgekit init"),
        (["build", "-r", "quickstart", "--set", "prune.ratio=2"], "expected float < 1.0"),
        (["build", "-r", "quickstart", "--until", "exprot"], "--until 'exprot'"),
        (["build", "-r", "quickstart", "--runner", "ssh2://x"], "unknown runner 'ssh2'"),
        (["build", "-r", "quickstart", "-t", "host", "-t", "host"], "named twice"),
        (["build", "--model", "no.onnx"], "'no.onnx' does not exist"),
        (["build", "--data", "digits"], "go with --model"),
        (["list", "stage"], "Did you mean 'stages'?"),
        (["show", "kdd"], "Did you mean 'kd'?"),
        (["verify", "nothing"], "does not exist"),
        (["cache", "explain", "abcdef"], "found 0 entries"),
        (["device", "doctor", "emulate:rpi4"], "Did you mean 'emulated'?"),
    ],
)
def test_wrong_input_exits_2_and_says_what_to_do(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = edgekit(*arguments, cwd=tmp_path, check=2)
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_output_that_is_not_writable_is_refused_before_anything_runs(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"")
    done = edgekit("build", "-r", "quickstart", "-o", "blocked/dist", cwd=tmp_path, check=2)
    assert "Choose a folder you may write to" in " ".join(done.stderr.split())
    assert not list((tmp_path / "store").glob("??/*"))


def test_init_writes_a_recipe_that_plans_and_overwrites_nothing(tmp_path: Path) -> None:
    edgekit("init", cwd=tmp_path)
    text = (tmp_path / "edgekit.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=.edgekit-recipe.schema.json\n")
    edgekit("plan", cwd=tmp_path)
    done = edgekit("init", cwd=tmp_path, check=2)
    assert "exists already" in done.stderr
    assert (tmp_path / "edgekit.yaml").read_text(encoding="utf-8") == text


def test_schema_accepts_the_shipped_files_and_refuses_a_wrong_key(tmp_path: Path) -> None:
    from edgekit.core.assets import asset_names, find_asset
    from edgekit.core.yaml_file import load_yaml

    for kind, folder in (("recipe", "recipes"), ("target", "targets")):
        schema = json.loads(edgekit("schema", kind, cwd=tmp_path).stdout)
        for name in asset_names(folder):  # type: ignore[arg-type]
            value = load_yaml(find_asset(folder, name)).value  # type: ignore[arg-type]
            if kind == "target" and value["cpu"] == "host":
                continue
            jsonschema.validate(value, schema)
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({**value, "stagse": []}, schema)


def test_list_names_every_kind(tmp_path: Path) -> None:
    assert "rpi4" in edgekit("list", "targets", cwd=tmp_path).stdout
    names = json.loads(edgekit("list", "stages", "--json", cwd=tmp_path).stdout)
    assert set(names) >= {"train", "distill", "prune", "export", "quantize", "compile", "profile"}


def test_completion_knows_the_targets(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgekit"],
        cwd=tmp_path,
        env={
            **os.environ,
            "_EDGEKIT_COMPLETE": "bash_complete",
            "COMP_WORDS": "edgekit build --target rp",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert {"plain,rpi4", "plain,rpi5"} <= set(done.stdout.split())


def test_json_asked_for_means_errors_as_json_too(tmp_path: Path) -> None:
    done = edgekit("build", "-r", "quikstart", "--json", cwd=tmp_path, check=2)
    event = json.loads(done.stdout)
    assert (event["event"], event["exit_code"]) == ("error", 2)
    assert "unknown recipe 'quikstart'" in event["message"]


def test_json_output_is_one_object_a_line(tmp_path: Path) -> None:
    done = edgekit("plan", "-r", "quickstart", "--json", cwd=tmp_path)
    assert msgspec.json.decode(done.stdout)


def test_verify_of_what_is_no_bundle_exits_2_and_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "stray").write_bytes(b"x")
    done = edgekit("verify", "bundle", cwd=tmp_path, check=2)
    assert "missing: manifest.json" in done.stdout
    assert "is not what was built" in done.stderr
