"""Where files lie: in folders, or in object storage under an address, as "s3://bucket/mels/a.npy".

A place is a `Path` or an `Address`. Who lists, reads or writes files asks either the same questions, and gets `OSError`
from both. Object storage is spoken to by obstore, which litdata brings too; endpoint and keys are those that the
environment names (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
"""

import datetime
import errno
import fnmatch
import functools
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

from wavediff.errors import ConfigError, require_packages

SCHEME = "s3:"
BLOCK_BYTES = 1 << 18
"""What one request asks for at least: the header of a file, and the whole of a short one."""
METADATA_SERVICE = "169.254.169.254"  # of a machine in the cloud
REQUEST_SECONDS = 600  # a file of hours comes by a single request
RETRY_SECONDS = 60


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address of object storage, as "s3://bucket/corpus"."""
    return "://" in str(path)


def check_endpoint() -> None:
    """Keys and data travel encrypted.

    Raises:
        ConfigError: the endpoint that the environment names is no https://.
    """
    if (endpoint := os.environ.get("AWS_ENDPOINT_URL", "")).startswith("http://"):
        raise ConfigError(f"AWS_ENDPOINT_URL: {endpoint} is not encrypted; give it as https://")


class Address(PurePosixPath):
    """An object in object storage, or what is below a prefix: "s3://bucket/key". Joined and taken apart like a path.

    Every method that asks the storage raises `OSError` with the reason, ConfigError where the endpoint cannot be used,
    and MissingExtraError where obstore is not installed.
    """

    def __str__(self) -> str:
        first, _, rest = super().__str__().partition("/")  # in which "//" has become "/"
        return f"{first}//{rest}" if first.endswith(":") else super().__str__()

    def absolute(self) -> Self:
        """Itself."""
        return self

    def is_absolute(self) -> bool:
        """It does not depend on the working directory."""
        return True

    def open(self, mode: Literal["rb"]) -> io.BufferedReader:
        """The object's bytes, which are asked for as they are read; `mode` is that of `Path.open`."""
        return io.BufferedReader(_Object(self, self.size), BLOCK_BYTES)

    @functools.cached_property
    def size(self) -> int:
        """Of the object [bytes], as it was when it was listed or first asked for."""
        return int(self._ask(lambda store, key: store.head(key))["size"])

    def exists(self) -> bool:
        """Whether there is such an object."""
        try:
            self._ask(lambda store, key: store.head(key))
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there are objects below it."""
        return any(self._ask(lambda store, key: list(next(iter(store.list(key, chunk_size=1)), ()))))

    def files(self, *, deep: bool = True) -> Iterator["Address"]:
        """The objects below it, those of its own level alone unless `deep`."""
        bucket = Address(*self.parts[:2])
        if deep:
            pages = self._ask(lambda store, key: iter(store.list(key)))
        else:
            pages = iter([self._ask(lambda store, key: store.list_with_delimiter(key)["objects"])])
        while (page := self._ask(lambda store, key: next(pages, None))) is not None:
            for row in page:
                found = bucket / row["path"]
                found.size = row["size"]
                yield found

    def matches(self) -> Iterator["Address"]:
        """The objects whose address this is, where `*`, `?` and `[...]` stand for parts of a name."""
        first = [_is_pattern(part) for part in self.parts].index(True)
        for found in Address(*self.parts[:first]).files():
            if len(found.parts) == len(self.parts) and fnmatch.fnmatchcase(str(found), str(self)):
                yield found

    @property
    def is_pattern(self) -> bool:
        """Whether a part of it stands for several names."""
        return any(map(_is_pattern, self.parts[2:]))

    def put(self, file: Path) -> None:
        """Write a file there, whole or not at all."""
        self._ask(lambda store, key: store.put(key, file))

    def part(self, start: int, length: int) -> Any:
        """A buffer of the object's bytes from `start`."""
        return self._ask(lambda store, key: store.get_range(key, start=start, length=length))

    def _ask(self, what: Any) -> Any:
        if self.parts[0] != SCHEME or len(self.parts) < 2:
            raise OSError(errno.EINVAL, f"an address is {SCHEME}//bucket/name, no other kind is known")
        check_endpoint()
        require_packages(["obstore"], "s3", f"{self}: object storage")
        try:
            return what(_store(self.parts[1]), "/".join(self.parts[2:]))
        except FileNotFoundError as error:
            raise OSError(errno.ENOENT, "no such object or bucket") from error
        except Exception as error:  # obstore's have only Exception in common
            text, kind = str(error), type(error).__name__
            if "NoSuchBucket" in text:
                raise OSError(errno.ENOENT, f"no such bucket, {self.parts[1]}") from error
            if METADATA_SERVICE in text:  # asked where the environment names no keys
                what = "no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                raise OSError(errno.EACCES, what) from error
            if kind in ("PermissionDeniedError", "UnauthenticatedError"):
                raise OSError(errno.EACCES, "no permission: see AWS_ACCESS_KEY_ID and the bucket's policy") from error
            reason = " ".join(text.partition("\n\nDebug source")[0].split())
            raise OSError(errno.EIO, f"{reason:.300}") from error


Place = Path | Address


def place(path: str | os.PathLike[str]) -> Place:
    """The place that is meant: an address where the text has "://", else a path."""
    return Address(path) if is_remote(path) else Path(path)


def there(wanted: Iterable[Place]) -> set[Place]:
    """Those of some files that exist. A folder in object storage is listed once, instead of a request for each file.

    Raises:
        OSError: a folder cannot be listed.
    """
    wanted = set(wanted)
    addresses = {target for target in wanted if isinstance(target, Address)}
    found: set[Place] = {target for target in wanted - addresses if target.exists()}
    for folder in {target.parent for target in addresses}:
        found.update(addresses.intersection(folder.files(deep=False)))
    return found


class _Object(io.RawIOBase):
    """The bytes of an object."""

    def __init__(self, address: Address, size: int) -> None:
        self._address, self._size, self._at = address, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence], 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        data = memoryview(self._address.part(self._at, length))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _is_pattern(part: str) -> bool:
    return any(letter in part for letter in "*?[")


@functools.lru_cache(maxsize=8)
def _store(bucket: str) -> Any:
    from obstore.store import S3Store

    request, retries = datetime.timedelta(seconds=REQUEST_SECONDS), datetime.timedelta(seconds=RETRY_SECONDS)
    return S3Store(bucket, client_options={"timeout": request}, retry_config={"retry_timeout": retries})
