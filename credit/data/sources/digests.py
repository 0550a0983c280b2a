"""Is a file what it should be? Digests of files, of members of an ``.npz``, and of the arrays a run trained on."""

import hashlib
import zipfile
import zlib
from pathlib import Path

from torch import Tensor

from credit.core.errors import UserError

_LOCAL_HEADER = 30  # bytes of a zip member's local header before its name


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hex digest of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def verified_bytes(path: Path, expected: str) -> bytes:
    """Return a file's bytes, read once, after checking their digest.

    Args:
        path: the file.
        expected: ``"<algorithm>:<hex>"``, for example ``"md5:c99c..."``.

    Raises:
        UserError: another digest; names the file and both digests.
    """
    algorithm, _, digest = expected.partition(":")
    content = path.read_bytes()
    found = hashlib.new(algorithm, content).hexdigest()
    if found != digest:
        raise corrupt(path, algorithm, digest, found, f"{len(content)} bytes")
    check_sidecar(path)
    return content


def check_sidecar(path: Path) -> None:
    """Compare a file with the ``<file>.sha256`` beside it, if there is one (first word, as ``sha256sum`` writes it).

    Raises:
        UserError: another digest, or a sidecar that holds none.
    """
    sidecar = path.with_name(path.name + ".sha256")
    if not sidecar.is_file():
        return
    words = sidecar.read_text(errors="replace").split()
    expected = words[0].lower() if words else ""
    if len(expected) != 64 or set(expected) - set("0123456789abcdef"):
        raise UserError(
            f"{sidecar}: holds no SHA-256 digest. Write it anew with: sha256sum {path.name} > {sidecar.name}"
        )
    found = file_digest(path, "sha256")
    if found != expected:
        raise corrupt(path, "sha256", expected, found, f"as {sidecar.name} says")


def corrupt(path: Path, algorithm: str, expected: str, found: str, detail: str = "") -> UserError:
    """Return the error for a file whose digest is not the one it should have."""
    note = f" ({detail})" if detail else ""
    return UserError(
        f"corrupt data: {path}{note}\n  expected {algorithm} {expected}\n  found    {algorithm} {found}\n"
        "Nothing was read from it. Delete the file and fetch or unpack it again."
    )


def member_crcs(path: Path, info: zipfile.ZipInfo) -> tuple[str, str]:
    """Return the expected and the found CRC-32 of one zip member; found is "unreadable" where it cannot be unpacked.

    The standard library says only that a checksum is wrong; a message that names both lets a user compare copies.
    """
    expected = f"{info.CRC:08x}"
    with open(path, "rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER:
            return expected, "unreadable"
        name_and_extra = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        stream.seek(info.header_offset + _LOCAL_HEADER + name_and_extra)
        content = stream.read(info.compress_size)
    if info.compress_type == zipfile.ZIP_DEFLATED:
        try:
            content = zlib.decompress(content, wbits=-15)
        except zlib.error:
            return expected, "unreadable"
    return expected, f"{zlib.crc32(content):08x}"


def arrays_digest(arrays: dict[str, Tensor]) -> str:
    """Return the SHA-256 (hex) of named arrays: names, dtypes, shapes and contents, in the order given.

    The same images and labels give the same digest from whichever file layout they were read.
    """
    total = hashlib.sha256()
    for name, array in arrays.items():
        total.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        total.update(array.contiguous().numpy().data)
    return total.hexdigest()
