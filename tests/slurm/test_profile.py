from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.domain.errors import SuiteError
from harness.slurm import profile as module
from harness.slurm.further_options import INSTEAD
from harness.slurm.profile import Profile, directives, load_profile, option, with_overrides

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_profiles_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    monkeypatch.setattr(module, "_SITE", tmp_path / "site")


def written(text: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(text: str, folder: Path) -> str:
    """Return what is said of a profile with this text."""
    path = written(text, folder / "slurm" / "site.toml")
    with pytest.raises(SuiteError) as error:
        load_profile("site", cwd=folder)
    said = str(error.value)
    assert said.startswith(f"{path}: ")
    assert "\n" not in said
    return said


# Where profiles lie ------------------------------------------------------------------------------------------------


def test_without_a_name_or_a_default_nothing_is_set(tmp_path: Path) -> None:
    found = load_profile(None, cwd=tmp_path)
    assert found == Profile()
    assert (found.name, found.source) == ("default", None)
    assert (found.nodes, found.whole_nodes, found.requeue, found.warn_s) == (1, True, True, 120)


@pytest.mark.parametrize("place", ["slurm", "own/harness/slurm", "site"])
def test_without_a_name_it_is_the_default_where_there_is_one(tmp_path: Path, place: str) -> None:
    path = written("nodes = 2", tmp_path / place / "default.toml")
    found = load_profile(None, cwd=tmp_path)
    assert (found.nodes, found.name, found.source) == (2, "default", path)


def test_the_nearest_profile_of_a_name_is_taken(tmp_path: Path) -> None:
    for nodes, place in ((4, "site"), (3, "own/harness/slurm"), (2, "slurm")):
        written(f"nodes = {nodes}", tmp_path / place / "a100.toml")
        assert load_profile("a100", cwd=tmp_path).nodes == nodes


@pytest.mark.parametrize("name", ["mine.toml", "./mine.toml", "{folder}/mine.toml"])
def test_what_looks_like_a_path_is_one(tmp_path: Path, name: str) -> None:
    path = written("nodes = 2", tmp_path / "mine.toml")
    found = load_profile(name.format(folder=tmp_path), cwd=tmp_path)
    assert (found.nodes, found.name, found.source) == (2, "mine", path)


def test_a_name_that_is_not_there_is_refused_with_the_places_and_the_names_there_are(tmp_path: Path) -> None:
    written("", tmp_path / "slurm" / "cpu.toml")
    written("", tmp_path / "site" / "a100.toml")
    with pytest.raises(SuiteError) as error:
        load_profile("a10", cwd=tmp_path)
    said = str(error.value)
    assert "there is no profile 'a10'; did you mean 'a100'?" in said
    assert f"looked in {tmp_path}/slurm, {tmp_path}/own/harness/slurm, {tmp_path}/site, where there are a100 (" in said
    assert "cpu (" in said


def test_where_there_is_no_profile_at_all_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"there is no profile 'x'; looked in .* there are none; write one, or give"):
        load_profile("x", cwd=tmp_path)


@pytest.mark.parametrize("name", ["./none.toml", "a\0b/x", "slurm/"])
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "slurm").mkdir()
    with pytest.raises(SuiteError, match=re.escape(name.strip("./"))[:2]):
        load_profile(name, cwd=tmp_path)


# What a profile may say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('nodes = 2\npartition = "a', "is no TOML ("),
        ('partiton = "gpu"', "unknown key 'partiton'; did you mean 'partition'? the keys are: partition, account, "),
        ('name = "x"', "unknown key 'name';"),
        ("[gpu]\nnodes = 2", "unknown key 'gpu';"),
        ("partition = 3", "partition must be a text that is not empty, on one line and without control characters"),
        ('partition = ""', "partition must be a text that is not empty"),
        ('account = "a\\nb"', "account must be a text that is not empty, on one line and without control"),
        ('qos = "a\\u0000b"', "qos must be a text"),
        ('command = "a\\tb"', "command must be a text"),
        ("nodes = 0", "nodes must be at least 1, got 0"),
        ("nodes = true", "nodes must be a whole number, got True"),
        ('nodes = "2"', "nodes must be a whole number, got '2'"),
        ("nodes = 2.0", "nodes must be a whole number, got 2.0"),
        ("cpus_per_node = 0", "cpus_per_node must be at least 1"),
        ('time = "soon"', "time is refused: 'soon' is no time limit; give minutes"),
        ("time = 02:00:00", 'time must be minutes or a text, in quotes, such as "2:00:00"'),
        ("time = 0", "time is refused: '0' is no time limit"),
        ("time = true", "time must be minutes or a text"),
        ('gpus_per_node = "a100"', 'gpus_per_node must be a whole number, or one with its type, such as "a100:4", got'),
        ("gpus_per_node = -1", "gpus_per_node must be a whole number"),
        ("gpus_per_node = true", "gpus_per_node must be a whole number"),
        ("memory_per_node = 64", 'memory_per_node must be a text with a unit out of K, M, G and T, such as "64G"'),
        ('memory_per_node = "64 GB"', "memory_per_node must be a text with a unit"),
        ('exclusive = "yes"', "exclusive must be true or false, got 'yes'"),
        ("requeue = 1", "requeue must be true or false, got 1"),
        ("most_requeues = -1", "most_requeues must be at least 0"),
        ('modules = "cuda"', "modules must be a list of texts, got 'cuda'"),
        ("modules = [1]", "modules must be a text that is not empty"),
        ('setup = "cd"', "setup must be a list of lines of shell, each without a newline, got 'cd'"),
        ('setup = ["a\\nb"]', "setup must be a list of lines of shell, each without a newline"),
        ('container = ""', 'container must be a command, such as "apptainer exec --nv image.sif"'),
        ("container = \"a 'b\"", "container must be a command"),
        ("container = []", "container must be a command"),
        ('results = ""', "results must be a text that is not empty"),
        ('results = "~no-such-user-at-all/r"', "results must be a folder; there is no such user's"),
        ('warn = "soon"', "warn is refused: 'soon' is no duration; give seconds above 0"),
        ('warn = "19h"', "warn must be from 1s to 18h, got '19h'"),
        ("warn = 0.2", "warn must be from 1s to 18h"),
        ("expect_within = 0", "expect_within is refused: 0 is no duration"),
        ('environment = ["A=B"]', "environment must be a table of names and texts"),
        ("[environment]\nOMP_NUM_THREADS = 4", "environment: OMP_NUM_THREADS must be a text, in quotes, such as"),
        ('[environment]\n"1A" = "x"', "environment: '1A' is no name of a variable"),
        ('[environment]\n"A;touch evil" = "x"', "environment: 'A;touch evil' is no name of a variable"),
        ('[environment]\nA = "a\\nb"', "environment: A cannot hold a newline, NUL or"),
        ('sbatch = ["--array=3"]', "sbatch cannot hold --array: use `harness submit --array`"),
        ('sbatch = ["nice"]', "sbatch cannot hold 'nice': write one long option of sbatch, with its value behind ="),
        ('sbatch = ["-N3"]', "sbatch cannot hold '-N3'"),
        ('sbatch = ["--nice 10"]', "sbatch cannot hold '--nice 10'"),
    ],
)  # fmt: skip
def test_a_profile_that_says_nothing_sensible_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in refused(text, tmp_path)


def test_a_mistake_in_the_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert "(at line 2, column " in refused("nodes = 2\npartition = gpu", tmp_path)


def test_a_file_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b'partition = "\xff"')
    with pytest.raises(SuiteError, match=r"x\.toml: is no TOML \("):
        load_profile(str(path))


def test_the_value_of_a_variable_is_not_told_with_the_mistake_in_another(tmp_path: Path) -> None:
    assert "s3cret" not in refused('[environment]\nTOKEN = "s3cret"\n"1A" = "x"', tmp_path)


@pytest.mark.parametrize("taken", INSTEAD)
def test_what_the_harness_sets_itself_cannot_be_a_further_option(taken: str) -> None:
    for word in (taken, f"{taken}=x"):
        with pytest.raises(SuiteError, match=f"sbatch cannot hold {taken}: "):
            Profile(sbatch=[word])


@pytest.mark.parametrize("word", ["--arr=3", "--out=x", "--part=x", "--no-re", "--sig=USR1"])
def test_nor_can_a_beginning_that_sbatch_would_take_for_it(word: str) -> None:
    with pytest.raises(SuiteError, match="sbatch cannot hold --"):
        Profile(sbatch=[word])


@pytest.mark.parametrize(
    "word", ["--nice", "--nice=10", "--comment=a b=c", "--nodelist=n1", "--mail-type=END", "--licenses=x"]
)
def test_any_other_long_option_is_taken(word: str) -> None:
    assert directives(Profile(sbatch=[word]))[-1] == word


def test_values_are_held_in_one_form() -> None:
    found = Profile(
        time=90, gpus_per_node="4", container="apptainer exec --nv 'my image.sif'", warn="1h 30m", expect_within=60,
    )  # fmt: skip
    assert (found.time, found.gpus_per_node, found.warn, found.expect_within) == ("0-01:30:00", 4, "1h30m", "60s")
    assert found.container == ("apptainer", "exec", "--nv", "my image.sif")
    assert found.warn_s == 5400
    assert Profile(**found.plain()) == found


# The command line --------------------------------------------------------------------------------------------------


def test_the_command_line_goes_before_the_profile() -> None:
    site = Profile(partition="gpu", nodes=2, modules=["cuda"], environment={"A": "1", "B": "2"}, sbatch=["--nice"])
    site = site.named("site", Path("site.toml"))
    found = with_overrides(
        site, nodes=3, partition=None, modules=["python"], environment=["B=3=4", "C="], sbatch=["--comment=x"],
        setup=["ulimit -n 9"],
    )  # fmt: skip
    assert (found.partition, found.nodes) == ("gpu", 3)
    assert found.modules == ("cuda", "python")
    assert found.environment == {"A": "1", "B": "3=4", "C": ""}
    assert found.sbatch == ("--nice", "--comment=x")
    assert found.setup == ("ulimit -n 9",)
    assert (found.name, found.source) == ("site", Path("site.toml"))
    assert site.environment == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"gpus_per_node": "x"}, "--gpus-per-node x: must be a whole number, or one with its type, such as \"a100:4\""),
        ({"memory_per_node": "x"}, '--memory x: must be a text with a unit out of K, M, G and T, such as "64G"'),
        ({"time": "soon"}, "--time soon: is refused: 'soon' is no time limit; give minutes"),
        ({"partition": ""}, "--partition '': must be a text"),
        ({"partition": "a\x1bb"}, r"--partition 'a\x1bb': must be a text"),
        ({"setup": ["a\udcff"]}, "must be a list of lines of shell"),
        ({"environment": ["A=s3cret\udcff"]}, "--env: A cannot hold a newline, NUL or a byte that is no UTF-8"),
        ({"nodes": 0}, "--nodes 0: must be at least 1"),
        ({"modules": [""]}, "--module '': must be a text that is not empty"),
        ({"sbatch": ["--array=3"]}, "--sbatch --array=3: cannot hold --array: use `harness submit --array`"),
        ({"environment": ["A"]}, "--env: 'A' sets no variable; give NAME=VALUE"),
        ({"environment": ["1=s3cret"]}, "--env: '1' is no name of a variable"),
        ({"exclusive": False}, "beside other jobs (exclusive = false, --shared) Slurm would grant one processor"),
        ({"time": "2:00"}, "the time 0-00:02:00 is not more than warn, 2m: the run would be told to end as soon as"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_by_its_name(given: dict[str, Any], says: str) -> None:
    with pytest.raises(SuiteError) as error:
        with_overrides(Profile(), **given)
    assert says in str(error.value)
    assert "s3cret" not in str(error.value)
    assert str(error.value).isprintable()


# What sbatch is told -----------------------------------------------------------------------------------------------


def test_a_profile_with_nothing_set_asks_for_one_whole_node() -> None:
    assert directives(Profile()) == ["--nodes=1", "--ntasks-per-node=1", "--exclusive", "--mem=0"]


def test_each_key_becomes_an_option() -> None:
    found = Profile(
        partition="gpu", account="a b", qos="high", constraint="a100&ib", reservation="r", nodes=3, time="2:00:00",
        gpus_per_node="a100:4", cpus_per_node=8, memory_per_node="64G", sbatch=["--nice=10"],
    )  # fmt: skip
    assert directives(found) == [
        "--partition=gpu", "--account=a b", "--qos=high", "--constraint=a100&ib", "--reservation=r", "--nodes=3",
        "--ntasks-per-node=1", "--cpus-per-task=8", "--gres=gpu:a100:4", "--mem=64G", "--time=0-02:00:00", "--nice=10",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "whole", "memory"),
    [
        ({}, True, ["--mem=0"]),
        ({"cpus_per_node": 2}, False, []),
        ({"cpus_per_node": 2, "exclusive": True}, True, ["--mem=0"]),
        ({"cpus_per_node": 2, "memory_per_node": "1G"}, False, ["--mem=1G"]),
        ({"memory_per_node": "1G"}, True, ["--mem=1G"]),
    ],
)
def test_a_node_is_whole_unless_processors_are_counted(keys: dict[str, Any], whole: bool, memory: list[str]) -> None:
    words = directives(Profile(**keys))
    assert ("--exclusive" in words) is whole
    assert [word for word in words if word.startswith("--mem")] == memory


@pytest.mark.parametrize(("given", "count"), [(None, 0), (0, 0), (2, 2), ("4", 4), ("a100:4", 4), ("1g.5gb:7", 7)])
def test_the_gpus_of_a_node_are_counted_whatever_their_type(given: int | str | None, count: int) -> None:
    assert Profile(gpus_per_node=given).gpus == count


def test_a_profile_comes_back_from_json_as_it_was() -> None:
    found = Profile(time="1-12", gpus_per_node="a100:4", modules=["cuda"], container="a b", environment={"A": "1"})
    assert Profile.model_validate(found.model_dump(mode="json")) == found


def test_no_gpu_asked_for_is_no_option() -> None:
    assert not [word for word in directives(Profile(gpus_per_node=0)) if "gpu" in word]


# What is written about it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "slurm").glob("*.toml")), ids=lambda path: path.stem)
def test_each_example_is_a_profile(path: Path) -> None:
    assert with_overrides(load_profile(str(path))).nodes >= 1


def test_the_page_has_every_key_with_its_option_and_default() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| .+? \| (.+?) \| (.*?) ?\| .+ \|$", (ROOT / "docs/slurm.md").read_text(), re.MULTILINE
    )
    assert [key for key, _, _ in rows] == list(Profile.model_fields)
    plain = Profile().plain()
    for key, default, named in rows:
        if plain[key] not in (None, [], {}):
            assert default == f"`{str(plain[key]).lower()}`", key
        else:
            assert default != "", key
        assert named in ("", f"`{option(key)}`"), key
