"""What the parser of `wavediff train` says in seventy lines, in one: file or option, key, cause and cure."""

import dataclasses
import difflib
import inspect
import itertools
import re
import typing
from collections.abc import Iterable, Sequence

from wavediff import training
from wavediff.errors import did_you_mean

_CURE = "correct it, `wavediff train --print_config` shows every key"
_NO_CLASS = "Expected a <class 'NoneType'>"


def configuration_error(message: str, argv: Sequence[str], options: Iterable[str] = ()) -> str:
    """One line.

    Args:
        message: of the parser or of the class that was to be built.
        argv: of the command, without `train`.
        options: that the parser knows, "--data.batch_size".
    """
    known = [option.removeprefix("--") for option in options if re.fullmatch(r"--[\w.]+", option)]
    if found := re.search(r"unrecognized arguments: (.*)", message):
        given = next((word for word in found[1].split() if word.startswith("-")), found[1]).partition("=")[0]
        if given.endswith((".yaml", ".yml")):
            return f"{given}: a recipe follows --config; write `wavediff train --config {given}`"
        given = next((word for word in argv if word.partition("=")[0].endswith(given.lstrip("-"))), given)
        return f"{given}: is no option of `wavediff train`{_meant(given.lstrip('-'), [*known, *_names()])}; {_CURE}"
    if found := re.search(r"arguments are required: (.*)", message):
        keys = found[1].replace("fit.", "")
        return f"{_where('', argv)}: {keys} missing; pass --config with a recipe, or give them"
    unknown = re.findall(
        r"does not accept option '([^']+)'|Option '([^']+)' is not accepted|Key '([^']+)' is not", message
    )
    if unknown:
        # Of a part with several classes each one says what it does not take: a key of no class is the fault.
        keys = [next(filter(None, found)) for found in reversed(unknown)]
        key = next((key for key in keys if key.rpartition(".")[2] not in _names()), keys[0])
        return f"{_where(key, argv)}: {key} is no key of the configuration{_meant(key, [*known, *_names()])}; {_CURE}"
    if typed := re.findall(r'Parser key "([^"]+)":\s*Expected an? (.+?)\.? Got value: ([^\n]*)', message):
        key, wanted, got = typed[-1]
        return f"{_where(key, argv)}: {key}: expected {_plain(wanted)}, got {got[:80]}; {_CURE}"
    if found := re.search(r"class_path '([^']*)'", message):
        classes = [f"wavediff.training.{name}" for name in training.__all__]
        place = _where(found[1], argv)
        return f"{place}: class_path {found[1]}: there is no such class{_meant(found[1], classes)}; {_CURE}"
    if found := re.search(r"File does not exist: '?([^'\n]*)'?", message):
        return f"{found[1]}: no such file; check the path behind --config"
    if found := re.search(r"Problems? parsing config:?(.*)", message, re.DOTALL):
        return f"{_where('', argv)}: is no YAML ({_line(found[1])}); correct it there"
    if found := re.search(
        r"(?i)no supported (\w+) backend|(\w+).? (?:accelerator|backend|device).*(?:not|no) (?:available|found)",
        message,
    ):
        return f"{_where('accelerator', argv)}: trainer.accelerator: {_line(message)}; choose cpu or auto"
    if keys := re.findall(r'Parser key "([^"]+)":?\s*', message):
        reasons = [line.strip(" -") for line in message.splitlines()[1:]]
        kept = [line for line in reasons if line and line != _NO_CLASS and not line.startswith(("Subtypes", "Errors"))]
        reason = next(
            (line for line in reversed(kept) if line.startswith("Expected")), _line(" ".join(kept) or message)
        )
        return f"{_where(keys[-1], argv)}: {keys[-1]}: {_plain(reason)}; {_CURE}"
    return f"{_where('', argv)}: {_line(message)}; {_CURE}"


def _where(key: str, argv: Sequence[str]) -> str:
    """The files of the configuration, unless the key is an option of the command."""
    last = key.rpartition(".")[2]
    if last and any(word.startswith("--") and re.search(rf"\b{re.escape(last)}(=|$)", word) for word in argv):
        return "options"
    words = [word for argument in argv for word in argument.split("=", 1)]
    files = [after for word, after in itertools.pairwise(words) if word in ("--config", "-c")]
    return ", ".join(files) or "--config"


def _meant(given: str, known: Iterable[str]) -> str:
    """ " (did you mean ...?)" where a known name is much like the given one."""
    known = list(known)
    ends = {name.rpartition(".")[2]: name for name in known}  # a key below another one, whose place is not told
    close = difflib.get_close_matches(given.rpartition(".")[2], list(ends), 1, 0.6)
    return did_you_mean(given, known) or (f" (did you mean {ends[close[0]]}?)" if close else "")


def _names() -> set[str]:
    """The keys below the classes that recipes name."""
    names = set()
    for name in training.__all__:
        thing = getattr(training, name)
        if not inspect.isclass(thing):
            continue
        for parameter, hint in typing.get_type_hints(thing.__init__).items():
            names.add(parameter)
            for part in (hint, *typing.get_args(hint)):
                if dataclasses.is_dataclass(part):
                    names |= {field.name for field in dataclasses.fields(part)}
    return names


def _plain(reason: str) -> str:
    return re.sub(r"<class '([^']*)'>", lambda found: found[1].rpartition(".")[2], _line(reason))


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 240 else f"{line[:237]}..."
