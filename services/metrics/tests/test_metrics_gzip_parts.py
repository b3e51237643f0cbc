import gzip
import zlib

from hypothesis import given
from hypothesis import strategies as st

from warren_metrics.adapters.gzip_parts import assemble, compress


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_parts_in_any_number_are_one_gzip_member(texts: list[bytes]) -> None:
    whole = assemble(map(compress, texts))
    reader = zlib.decompressobj(31)
    assert reader.decompress(whole) == b"".join(texts)
    assert reader.eof
    assert reader.unused_data == b""


def test_parts_can_be_used_again_in_another_order() -> None:
    one, two = compress(b"a" * 100_000), compress(b"b\n")
    assert gzip.decompress(assemble([one, two, one])) == b"a" * 100_000 + b"b\n" + b"a" * 100_000
    assert (one.plain(), two.plain()) == (b"a" * 100_000, b"b\n")
