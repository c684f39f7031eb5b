# SPDX-License-Identifier: Apache-2.0
"""benchmarks/official_code.py on clones that are made here: what it finds, and what it says."""

import subprocess

import pytest

from benchmarks import official_code
from benchmarks.official import clones, pose, table
from benchmarks.official.clones import Clone, MissingClone

# Two chunks, in this test's own words; LAST is the largest first chunk.
POSE = """
import nothing_that_is_installed

def train_preprocess_function_pose(examples, tokenizer, window, train):
    count = len(tokenizer(examples["text"])["input_ids"][0])
    cut = random.randint(1, LAST)
    random.randint(count, count)
    places = torch.arange(count)
    places[cut:] += random.randint(0, window - count + FARTHER)
    return {"position_ids": [places]}
"""
RIGHT = {"LAST": "(count + 1) // 2", "FARTHER": "0"}


def clone_of_pose(folder, monkeypatch, changes, name="PoSE"):
    """A repository of one file, whose commit becomes that of the table."""
    text = POSE
    for word, value in {**RIGHT, **changes}.items():
        text = text.replace(word, value)
    file = folder / name / "src" / "train_pose.py"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    commands = (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "-"],
    )
    for words in commands:
        subprocess.run(["git", "-C", str(folder / name), *words], check=True)
    shown = subprocess.run(
        ["git", "-C", str(folder / name), "rev-parse", "HEAD"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    monkeypatch.setitem(clones.COMMITS, "PoSE", ("somebody/PoSE", shown.stdout.strip()))


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs the command on PoSE and CREAM alone: its exit code, and what it wrote."""
    monkeypatch.setattr(table.rows, "__defaults__", (table.COMPARISONS[0:3:2],))

    def run(*words):
        line = ["official_code.py", "--repositories", str(tmp_path), "--draws", "400", *words]
        monkeypatch.setattr("sys.argv", line)
        try:
            code = official_code.main()
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run


def test_the_same_code_agrees(command, monkeypatch, tmp_path):
    clone_of_pose(tmp_path, monkeypatch, {})
    code, out, err = command()
    assert code == 0
    assert "| PoSE | somebody/PoSE " in out
    assert "| places from the same random numbers | equal in all 100 |" in out
    assert "differs" not in out
    assert "| CREAM | bigai-nlco/CREAM 1d15c73 |  | skipped: no clone |" in out
    assert err == f"skipped: CREAM: no clone {tmp_path}/CREAM\n"


@pytest.mark.parametrize(
    "changes", [{"LAST": "count // 2 + 1"}, {"FARTHER": "-1"}, {"cut:": "cut + 1:"}]
)
def test_off_by_one_is_seen(command, monkeypatch, tmp_path, changes):
    clone_of_pose(tmp_path, monkeypatch, changes)
    code, out, _ = command()
    assert code == 1
    assert "| places from the same random numbers | **differs**: " in out


def test_other_shares_are_seen(monkeypatch, tmp_path):
    clone_of_pose(tmp_path, monkeypatch, {"LAST": "random.choice([1, (count + 1) // 2])"})
    clone = Clone.within(tmp_path, "PoSE")
    monkeypatch.setattr(pose, "WINDOWS", ())
    found = {it.compared: it.agrees for it in pose.compare(clone, 1000)}
    assert (found["length of the first chunk"], found["skip"]) == (False, True)


def test_the_commit_counts_not_what_is_checked_out(monkeypatch, tmp_path):
    clone_of_pose(tmp_path, monkeypatch, {})
    (tmp_path / "PoSE" / "src" / "train_pose.py").write_text("raise ValueError")
    assert all(it.agrees for it in pose.compare(Clone.within(tmp_path, "PoSE"), 400))


def test_a_folder_that_is_no_clone(tmp_path):
    (tmp_path / "PoSE").mkdir()
    with pytest.raises(MissingClone, match="PoSE is no git repository"):
        Clone.within(tmp_path, "PoSE")


def test_a_clone_without_the_commit(monkeypatch, tmp_path):
    with monkeypatch.context() as here:
        clone_of_pose(tmp_path, here, {})
    with pytest.raises(MissingClone, match="PoSE has no commit a3d4ba8; fetch it"):
        Clone.within(tmp_path, "PoSE")


def test_a_commit_without_the_file_or_the_function(monkeypatch, tmp_path):
    clone_of_pose(tmp_path, monkeypatch, {"def train_preprocess": "def other"})
    clone = Clone.within(tmp_path, "PoSE")
    with pytest.raises(MissingClone, match="train_pose.py has no train_preprocess_function_pose"):
        pose.official(clone, None)
    with pytest.raises(MissingClone, match="src/other.py cannot be read: "):
        clone.read("src/other.py")


def test_bad_words(command, monkeypatch, tmp_path):
    assert command()[2].splitlines()[-1] == (
        f"error: --repositories {tmp_path}: has none of the clones of docs/official_code.md"
    )
    assert command("--draws", "99")[2] == "error: --draws 99: must be at least 100\n"
    gone = tmp_path / "gone"
    assert command("--repositories", str(gone)) == (
        2, "", f"error: --repositories {gone}: no such folder\n",
    )  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text("text")
    code, _, err = command("--page", str(page))
    assert (code, err.startswith(f"error: --page {page}: no file with the lines ")) == (2, True)


def test_the_page_is_written_when_nothing_was_skipped(command, monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    before = f"# Head\n{official_code.START}\nold\n{official_code.END}\ntail\n"
    page.write_text(before)
    clone_of_pose(tmp_path, monkeypatch, {})
    _, _, err = command("--page", str(page))
    assert err.splitlines()[-1] == f"{page} stays as it is: 1 method was skipped"
    assert page.read_text() == before
    monkeypatch.setattr(table.rows, "__defaults__", (table.COMPARISONS[:1],))
    command("--page", str(page))
    written = page.read_text()
    assert written.startswith(f"# Head\n{official_code.START}\n\n| method |")
    assert written.endswith(f"|\n\n{official_code.END}\ntail\n")
    assert "somebody/PoSE" in written


def test_every_comparison_has_a_commit_and_the_page_lists_it():
    from tests.end_to_end.test_docs import ROOT

    text = (ROOT / "docs" / "official_code.md").read_text(encoding="utf-8")
    assert {name for _, name, _ in table.COMPARISONS} == set(clones.COMMITS)
    for repository, commit in clones.COMMITS.values():
        assert f"{repository} {commit[:7]}" in text
