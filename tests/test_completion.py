"""What a shell offers at the press of the tab key."""

import shutil
import subprocess
from pathlib import Path

import pytest

from wavediff.cli.main import SUBCOMMANDS, main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    from wavediff.cli.main import completion

    path = tmp_path_factory.mktemp("completion") / "wavediff"
    path.write_text(completion("bash"), encoding="utf-8")
    return path


ASK = """
. "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p wavediff | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" wavediff "${@: -1}" "${@: -2:1}" 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(script: Path, words: str, folder: Path) -> list[str]:
    """The completions of the last word, as bash has them."""
    command = ["bash", "--norc", "-c", ASK, "bash", str(script), *words.split(" ")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return sorted(set(done.stdout.split()))


def test_bash_offers_commands_options_choices_and_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "recording.wav").touch()
    assert set(SUBCOMMANDS) <= set(offered(script, "wavediff ", tmp_path))
    assert offered(script, "wavediff voc", tmp_path) == ["vocode"]
    assert offered(script, "wavediff vocode --mel", tmp_path) == ["--mel-spec"]
    assert offered(script, "wavediff prepare ljs", tmp_path) == ["ljspeech"]
    assert offered(script, "wavediff generate --format fl", tmp_path) == ["flac"]
    assert offered(script, "wavediff info rec", tmp_path) == ["recording.wav"]
    assert offered(script, "wavediff train --data.b", tmp_path) == ["--data.batch_size"]


def test_other_shells_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", "bsh"]) == 2
    assert (
        "wavediff --completion: bsh: is no shell with completion here (did you mean bash?)" in capsys.readouterr().err
    )
    assert main(["--completion"]) == 2
    assert "SHELL: missing; choose from bash, zsh" in capsys.readouterr().err
