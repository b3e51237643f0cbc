"""A profile as a QR code: in the terminal, or as an SVG or PNG file."""

import io
import json
from pathlib import Path

import segno

from warren_process.atomic_file import write_atomically
from warren_vpn.profiles.facts import UnsuitableProfileError
from warren_vpn.profiles.files import build_profile
from warren_vpn.profiles.profile import ClientProfile

KINDS = (".svg", ".png")
_SCALE = 4  # pixels of a module
_CAPACITY = 2953  # bytes of version 40 with the least error correction (ISO/IEC 18004)


def make_code(profile: ClientProfile) -> segno.QRCode:
    """Encode the profile's JSON without spaces. UnsuitableProfileError: it is too long for a QR code."""
    text = json.dumps(json.loads(build_profile(profile)), separators=(",", ":"))
    try:
        return segno.make_qr(text, error="l", boost_error=False)
    except segno.DataOverflowError:
        raise UnsuitableProfileError(
            f"--qr: the profile has {len(text):,} bytes, a QR code holds {_CAPACITY:,}; fewer routes, or a smaller CA"
        ) from None


def terminal_text(code: segno.QRCode) -> str:
    """The code as characters, for a terminal that shows block elements."""
    out = io.StringIO()
    code.terminal(out, compact=True)
    return out.getvalue()


def write_code(code: segno.QRCode, path: Path, secret: bool) -> None:
    """Write the code as SVG or PNG, by the name's ending. UnsuitableProfileError: another ending, or it cannot be written."""
    check_ending(path)
    out = io.BytesIO()
    code.save(out, kind=path.suffix[1:], scale=_SCALE)
    try:
        write_atomically(path, out.getvalue(), 0o600 if secret else 0o644)
    except OSError as error:
        raise UnsuitableProfileError(f"--qr-file: {path}: {error.strerror}") from None


def check_ending(path: Path) -> None:
    """UnsuitableProfileError: neither .svg nor .png."""
    if path.suffix not in KINDS:
        raise UnsuitableProfileError(f"--qr-file: {path.name}: must end in .svg or .png")
