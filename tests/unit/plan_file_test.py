"""Plan files: the same plan as the flags they hold, and one line for everything that is wrong."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import harness
from harness.core.errors import UsageError
from harness.core.flags import Parser
from harness.plan import Plan, add_plan_flags, parse_plan
from harness.plan.file import PlanFile, file_of, schema_of

LINE = (
    "--executor dask --dask-workers 4 --ps-connector redis --data-management none owned-proxy"
    " --stage-task-counts 1 3 --stage-bytes-sizes 1MB 10KB 1000 --task-sleep 0.5 --repeat 5"
    " --worker-memory-limit 1GiB --until 5% --audit-stages --stack dask==2025.1.0"
)
FLAGS = LINE.split()
TEXT = """\
executor = "dask"
dask-workers = 4
ps-connector = "redis"
data-management = ["none", "owned-proxy"]
stage-task-counts = [1, 3]
stage-bytes-sizes = ["1MB", "10KB", 1000]
task-sleep = 0.5
repeat = 5
worker-memory-limit = "1GiB"
until = "5%"
audit-stages = true
keep = false
stack = ["dask==2025.1.0"]
"""


def parser() -> Parser:
    found = Parser(prog="harness bench", allow_abbrev=False)
    add_plan_flags(found, containers=True)
    return found


def plan_of(*words: str) -> Plan:
    return parse_plan(parser(), words, containers=True)


def refusal(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        plan_of(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(TEXT)
    return path


def test_a_file_is_the_plan_of_its_flags(file: Path) -> None:
    assert plan_of(str(file)) == plan_of(*FLAGS)


def test_flags_beside_the_file_override_it_wherever_they_stand(file: Path) -> None:
    assert plan_of("--repeat", "2", str(file)).general.repeat == 2
    assert plan_of(str(file), "--repeat=3").general.repeat == 3
    changed = plan_of("--data-management", "manual-proxy", str(file), "--stack", "dask==2025.2.0")
    assert changed.workload.modes == ("manual-proxy",)
    assert changed.topology is not None
    # Elsewhere the words of --stack add up; a file's are replaced.
    assert changed.topology.stack == ["dask==2025.2.0"]


def test_a_file_changes_the_one_it_extends(file: Path) -> None:
    folder = file.parent / "more"
    folder.mkdir()
    (folder / "large.toml").write_text('extends = "../plan.toml"\nrepeat = 7\naudit-stages = false')
    plan = plan_of(str(folder / "large.toml"))
    assert plan.general.repeat == 7
    assert not plan.general.audit_stages
    assert plan.workload == plan_of(str(file)).workload


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("repaet = 3", "repaet: no flag of a plan: did you mean repeat?"),
        ("zzz = 3", "zzz: no flag of a plan: names are the flags' (see --help)"),
        ("resume = 'x'", "resume: no flag of a plan"),
        ("repeat = [1, 2]", "repeat: takes one value, not a list"),
        ("repeat = true", "repeat: True is neither text nor a number"),
        ("repeat = 2020-01-01", "is neither text nor a number"),
        ("keep = 'yes'", "keep: takes true or false"),
        ("stage-task-counts = []", "stage-task-counts: the list is empty"),
        ("data-management = ['--keep']", "'--keep' looks like a flag"),
        ("repeat = 'x'", "argument --repeat: invalid int value: 'x'"),
        ("repeat = 0", "--repeat: input should be greater than 0, not 0"),
        ("task-sleep = nan", "--task-sleep: input should be a finite number"),
        ("stage-bytes-sizes = [1]", "--stage-bytes-sizes: 1 sizes given"),
        ("extends = 3", "extends: takes the path of one plan file"),
        ("extends = 'gone.toml'", "gone.toml: No such file or directory"),
        ("extends = 'plan.toml'", "extends leads back to"),
        ("repeat = ", "not TOML: Invalid value"),
        ("a = " + "[" * 5000, "not TOML"),
        ("# " + "x" * 2**20, "larger than 1048576 bytes"),
    ],
)
def test_one_line_names_the_file_and_the_flag(file: Path, text: str, said: str) -> None:
    name = text.partition(" ")[0]
    kept = [line for line in TEXT.splitlines() if not line.startswith(f"{name} =")]
    file.write_text("\n".join([*kept, text]))
    message = refusal(str(file))
    assert message.startswith(str(file.parent))
    assert said in message


def test_the_file_is_not_blamed_for_a_flag_beside_it(file: Path) -> None:
    assert refusal(str(file), "--repeat", "0").startswith("--repeat: input")


def test_no_text_and_two_files(file: Path) -> None:
    other = file.with_name("other.toml")
    other.write_bytes(b"\xff")
    assert "not UTF-8" in refusal(str(other))
    assert "one plan file at a time" in refusal(str(file), str(other))
    assert "No such file" in refusal(str(file.with_name("gone.toml")))


def test_a_flags_own_value_is_no_plan_file() -> None:
    words = ["--run-dir", "runs.toml", "--executor", "dask", "--run-dir=x.toml"]
    assert file_of(parser(), words) == (None, words)


def test_write_plan_gives_the_file_of_a_command_line(tmp_path: Path) -> None:
    path = tmp_path / "written.toml"
    with pytest.raises(SystemExit) as ended:
        plan_of(*FLAGS, "--write-plan", str(path))
    assert ended.value.code == 0
    assert plan_of(str(path)) == plan_of(*FLAGS)
    assert 'stage-bytes-sizes = ["1MB", "10KB", "1000"]' in path.read_text()
    assert "is there already: name a new file" in refusal(*FLAGS, "--write-plan", str(path))
    assert "ends in .toml" in refusal(*FLAGS, "--write-plan", str(tmp_path / "plan"))


def test_write_plan_holds_a_files_flags_and_those_beside_it(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        plan_of(str(file), "--write-plan", "-", "--repeat", "9", "--run-dir", 'a "quoted" \x7f')
    written = tomllib.loads(capsys.readouterr().out)
    assert written["repeat"] == 9
    assert written["run-dir"] == 'a "quoted" \x7f'
    assert written["audit-stages"] is True
    assert "keep" not in written
    assert "write-plan" not in written


@given(st.text(max_size=300) | st.dictionaries(st.text(max_size=12), st.integers()).map(json.dumps))
def test_any_text_is_a_plan_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "plan.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = ""
    try:
        PlanFile.read(path).words(parser().foldable)
    except UsageError as error:
        said = str(error)
    assert not said or said.startswith(str(path))


def test_the_schema_in_docs_is_the_flags_and_takes_the_examples() -> None:
    docs = Path(harness.__file__).parent.parent / "docs"
    schema = schema_of(parser().foldable)
    Draft202012Validator.check_schema(schema)
    written = json.loads((docs / "plan.schema.json").read_text())
    assert written == schema, "run: python -m harness.plan > docs/plan.schema.json"
    check = Draft202012Validator(schema)
    check.validate(tomllib.loads(TEXT))
    for wrong in ({"repaet": 1}, {"repeat": "x"}, {"keep": 1}, {"executor": "none"}):
        assert not check.is_valid(wrong), wrong
