"""Status of each algorithm in each document, as a table.

One letter a document: R recommended, A allowed, D deprecated, F forbidden, - not applicable or not listed. A row whose
last column is V was verified against the document and may refuse a policy; a row marked M was not, and only warns.

Sources: RFC 8247 and RFC 8221 as updated by RFC 9395 (MUST and SHOULD = R, MAY = A, SHOULD NOT = D, MUST NOT = F; three
are stricter or milder here: MODP_1024 is F, 3DES is D, x25519 and ML-KEM are R), NIST SP 800-77r1 Table 1, FIPS 140-3
(SP 800-140C/D), RFC 9206 (CNSA 1.0), draft-guthrie-cnsa2-ipsec-profile (CNSA 2.0), BSI TR-02102-3. In the columns of
national documents (NIST, FIPS, CNSA, BSI) an algorithm that is not listed is F.
"""

from dataclasses import dataclass
from enum import StrEnum


class Recommendation(StrEnum):
    """Status of an algorithm in a document."""

    RECOMMENDED = "R"
    ALLOWED = "A"
    DEPRECATED = "D"
    FORBIDDEN = "F"
    UNLISTED = "-"


COLUMNS = ("rfc-ike", "rfc-esp", "nist-800-77r1", "fips-140-3", "cnsa1", "cnsa2", "bsi-tr-02102-3")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm by keyword, its status in each of COLUMNS, and whether the row may refuse a policy."""

    keyword: str
    standings: tuple[Recommendation, ...]
    sure: bool
    note: str = ""

    def standing(self, column: str) -> Recommendation:
        """The status in one of COLUMNS."""
        return self.standings[COLUMNS.index(column)]


# keyword(s): IKE ESP NIST FIPS CNSA1 CNSA2 BSI, sure; note
_ENCRYPTION = (
    ("des", "F F F F F F F V", "RFC 9395"),
    ("cast128", "F F F F F F F M", "RFC 9395"),
    ("blowfish128 blowfish256", "F F F F F F F M", "RFC 9395"),
    ("3des", "D D D F F F F V", "legacy in SP 800-77r1"),
    ("null", "- A A A F F F M", "does not encrypt"),
    ("aes128", "R R R A F F R V", ""),
    ("aes192", "A A R A F F R V", ""),
    ("aes256", "R R R A F A R V", "RFC 9206 names GCM only"),
    ("aes128ctr aes192ctr aes256ctr", "A A R A F F R V", ""),
    ("aes128ccm8 aes192ccm8 aes256ccm8", "A A A A F F - M", "64-bit ICV"),
    ("aes128ccm12 aes192ccm12 aes256ccm12", "A A R A F F R M", ""),
    ("aes128ccm16 aes192ccm16 aes256ccm16", "A A R A F F R M", ""),
    ("aes128gcm8 aes192gcm8 aes256gcm8", "D D A D F F F M", "64-bit tag"),
    ("aes128gcm12 aes192gcm12 aes256gcm12", "A A A A F F R M", ""),
    ("aes128gcm16", "R R R A F F R V", ""),
    ("aes192gcm16", "A A R A F F R V", ""),
    ("aes256gcm16", "R R R R R R R V", "the only cipher in all profiles"),
    ("aes128gmac aes192gmac aes256gmac", "- A A A F F - V", "does not encrypt"),
    ("camellia128 camellia192 camellia256", "A A F F F F - M", ""),
    ("chacha20poly1305", "R R F F F F - V", "not approved by NIST"),
)
_PRF = (
    ("prfmd5", "F - F F F F F V", ""),
    ("prfsha1", "D - D D F F F V", "legacy to 2030 in SP 800-131A"),
    ("prfaesxcbc", "A - F F F F R M", ""),
    ("prfsha256", "R - R A F F R V", ""),
    ("prfsha384", "A - R A A R R V", "RFC 9206: SHA-384 MAY"),
    ("prfsha512", "R - R A R R R V", ""),
    ("prfaescmac", "A - A A F F R M", ""),
)
_INTEGRITY = (
    ("md5", "F F F F F F F V", ""),
    ("sha1", "D D D D F F F V", ""),
    ("aesxcbc", "A A F F F F R M", ""),
    ("md5_128", "F F F F F F F M", "RFC 9395"),
    ("sha1_160", "F F F F F F F M", "RFC 9395"),
    ("aescmac", "A A A A F F - M", ""),
    ("sha256", "R R R A F F R V", ""),
    ("sha384", "A A R A F A R V", ""),
    ("sha512", "R R R A F A R V", ""),
    ("sha256_96", "F F F F F F F V", "non-standard truncation"),
)
_KEY_EXCHANGE = (
    ("modp768", "F F F F F F F V", ""),
    ("modp1024", "F F F F F F F V", "Logjam"),
    ("modp1536", "D D F F F F F V", ""),
    ("modp2048", "R R R A F F F V", "112 bits: until 2030; BSI until 2022"),
    ("modp3072", "A A R A R F R V", ""),
    ("modp4096", "A A R A R F R V", ""),
    ("modp6144 modp8192", "A A R A F F - V", ""),
    ("ecp256", "R R R A F F R V", ""),
    ("ecp384", "A A R R R A R V", "CNSA 2.0: with ML-KEM-1024"),
    ("ecp521", "A A R A F F R V", ""),
    ("modp1024s160", "F F F F F F F V", "RFC 9395"),
    ("modp2048s224 modp2048s256", "D D D F F F F V", ""),
    ("ecp192", "F F F F F F F M", ""),
    ("ecp224", "D D D D F F F M", ""),
    ("ecp224bp", "D D F F F F F M", ""),
    ("ecp256bp ecp384bp ecp512bp", "A A F D F F R M", ""),
    ("x25519", "R R A F F F - V", "RFC 8031; not approved by SP 800-56A"),
    ("x448", "A A A F F F - V", ""),
    ("mlkem512", "A A - A F F D V", ""),
    ("mlkem768", "R R - A F F R V", "as an additional key exchange"),
    ("mlkem1024", "R R - R F R R V", "as an additional key exchange"),
)
_AUTHENTICATION = (
    ("psk", "R - A A D D A M", "needs 128 random bits"),
    ("ed25519", "A - A A F F - M", "FIPS 186-5 approves EdDSA"),
)


def _rows(*tables: tuple[tuple[str, str, str], ...]) -> dict[str, Algorithm]:
    rows: dict[str, Algorithm] = {}
    for keywords, letters, note in (row for table in tables for row in table):
        *standings, confidence = letters.split()
        values = tuple(Recommendation(letter) for letter in standings)
        rows |= {word: Algorithm(word, values, confidence == "V", note) for word in keywords.split()}
    return rows


ALGORITHMS = _rows(_ENCRYPTION, _PRF, _INTEGRITY, _KEY_EXCHANGE, _AUTHENTICATION)
# RFC 4543 and RFC 7296: these protect a CHILD_SA's integrity and encrypt nothing, so an IKE_SA cannot use them.
ESP_ONLY = frozenset({"null", "aes128gmac", "aes192gmac", "aes256gmac"})
