"""The ciphers of the layouts: each opens a ciphertext with a key and an IV, and tells whether it authenticates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import Blowfish, TripleDES
from cryptography.hazmat.decrepit.ciphers.modes import CFB, CFB8, OFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, AESGCMSIV, AESSIV, ChaCha20Poly1305

from pg_envelope.foreign.bad import NotOpened
from pg_envelope.foreign.chacha import XChaCha20Poly1305
from pg_envelope.foreign.salsa import XSalsa20Poly1305

# Opens one ciphertext with its tag, which stands where `tag_first` says: IV, ciphertext, associated data.
Open = Callable[[bytes, bytes, bytes | None], bytes]
TAG_BYTES = 16
CCM_IV = 13


@dataclass(frozen=True)
class Method:
    """A cipher as specifications name it. `key_bytes` lists the lengths that its keys may have.

    `iv_sizes` lists those of its IVs, the usual one first. A cipher that needs no IV has none, and takes any.
    `tag_first`: the tag comes before the ciphertext.
    """

    key_bytes: tuple[int, ...]
    iv_sizes: tuple[int, ...]
    authenticates: bool
    opener: Callable[[bytes], Open]
    block_bytes: int = 1
    tag_first: bool = False
    tag_bytes: int = TAG_BYTES

    @property
    def iv_bytes(self) -> int:
        return self.iv_sizes[0] if self.iv_sizes else 0

    def takes(self, iv_bytes: int) -> bool:
        return not self.iv_sizes or iv_bytes in self.iv_sizes


def _aead(kind: Callable[[bytes], Any]) -> Callable[[bytes], Open]:
    """Returns openers that keep the key's own object, because that costs more than a short value."""

    def of_key(key: bytes) -> Open:
        opened: Open = kind(key).decrypt
        return opened

    return of_key


def _cbc(algorithm: Callable[[bytes], Any], block_bytes: int) -> Callable[[bytes], Open]:
    """Returns openers that keep one stream for all values of a key, because a stream costs more than a short value.

    In CBC a block depends on the one before it, and on nothing else. So the IV goes in as a block, and what comes out
    for it is thrown away.
    """

    def of_key(key: bytes) -> Open:
        update = Cipher(algorithm(key), modes.CBC(bytes(block_bytes))).decryptor().update

        def opened(iv: bytes, ciphertext: bytes, _aad: bytes | None) -> bytes:
            # Half a block would stay in the stream, and spoil the next value.
            if len(iv) != block_bytes or not ciphertext or len(ciphertext) % block_bytes:
                raise NotOpened
            return update(iv + ciphertext)[block_bytes:]

        return opened

    return of_key


def _ecb(key: bytes) -> Open:
    """Each block stands alone, so one stream serves all values of a key."""
    # Only values that exist are read. Nothing is written in this mode.
    update = Cipher(algorithms.AES(key), modes.ECB()).decryptor().update  # noqa: S305

    def opened(_iv: bytes, ciphertext: bytes, _aad: bytes | None) -> bytes:
        if not ciphertext or len(ciphertext) % 16:
            raise NotOpened
        return update(ciphertext)

    return opened


def _stream(
    mode: Callable[[bytes], modes.ModeWithInitializationVector | modes.ModeWithNonce],
) -> Callable[[bytes], Open]:
    def of_key(key: bytes) -> Open:
        keyed = algorithms.AES(key)

        def opened(iv: bytes, ciphertext: bytes, _aad: bytes | None) -> bytes:
            stream = Cipher(keyed, mode(iv)).decryptor()
            return stream.update(ciphertext) + stream.finalize()

        return opened

    return of_key


def _ccm(tag_bytes: int) -> Callable[[bytes], Open]:
    """SJCL stores 16 bytes as IV. It takes as many of them as the length of the content leaves room for (RFC 3610: 15
    bytes hold both).
    """

    def of_key(key: bytes) -> Open:
        keyed = AESCCM(key, tag_length=tag_bytes)

        def opened(iv: bytes, ciphertext: bytes, aad: bytes | None) -> bytes:
            length = max(2, (max(len(ciphertext) - tag_bytes, 0).bit_length() + 7) // 8)
            nonce = iv if len(iv) <= CCM_IV else iv[: 15 - length]
            return keyed.decrypt(nonce, ciphertext, aad)

        return opened

    return of_key


def _siv(key: bytes) -> Open:
    """RFC 5297: the nonce is the last string that is bound. An empty string counts, and no string is another thing."""
    keyed = AESSIV(key)

    def opened(iv: bytes, ciphertext: bytes, aad: bytes | None) -> bytes:
        bound = [] if aad is None else [aad]
        return keyed.decrypt(ciphertext, [*bound, iv] if iv else bound)

    return opened


AES_KEYS = (16, 24, 32)
# Node's crypto takes an IV of any length for GCM. People use 12 and 16.
GCM_IVS = (12, 16)
CCM_IVS = (CCM_IV, *(size for size in range(7, 17) if size != CCM_IV))
NO_IV, BLOCK_IV = (), (16,)
METHODS = {
    "aes-gcm": Method(AES_KEYS, GCM_IVS, True, _aead(AESGCM)),
    "aes-gcm-siv": Method((16, 32), GCM_IVS, True, _aead(AESGCMSIV)),
    "chacha20-poly1305": Method((32,), GCM_IVS, True, _aead(ChaCha20Poly1305)),
    "xchacha20-poly1305": Method((32,), (24,), True, _aead(XChaCha20Poly1305)),
    "xsalsa20-poly1305": Method((32,), (24,), True, _aead(XSalsa20Poly1305)),
    "aes-siv": Method((32, 48, 64), NO_IV, True, _siv, tag_first=True),
    "aes-ccm": Method(AES_KEYS, CCM_IVS, True, _ccm(TAG_BYTES)),
    "aes-ccm-8": Method(AES_KEYS, CCM_IVS, True, _ccm(8), tag_bytes=8),
    "aes-cbc": Method(AES_KEYS, BLOCK_IV, False, _cbc(algorithms.AES, 16), 16),
    "aes-ecb": Method(AES_KEYS, NO_IV, False, _ecb, 16),
    "aes-ctr": Method(AES_KEYS, BLOCK_IV, False, _stream(modes.CTR)),
    "aes-cfb": Method(AES_KEYS, BLOCK_IV, False, _stream(CFB)),
    "aes-cfb8": Method(AES_KEYS, BLOCK_IV, False, _stream(CFB8)),
    "aes-ofb": Method(AES_KEYS, BLOCK_IV, False, _stream(OFB)),
    "blowfish-cbc": Method(tuple(range(4, 57)), (8,), False, _cbc(Blowfish, 8), 8),
    "3des-cbc": Method((24,), (8,), False, _cbc(TripleDES, 8), 8),
}
# Other names of the same, as people write them: aes-256-gcm also says how long the key is.
SIZED = {
    f"aes-{bits}-{mode}": (f"aes-{mode}", bits // 8)
    for bits in (128, 192, 256)
    for mode in ("gcm", "ccm", "ccm-8", "cbc", "ecb", "ctr", "cfb", "cfb8", "ofb")
}


# The padding of PKCS #7 by its length. No content has none.
PADDINGS = [bytes([length]) * length for length in range(17)]


def unpadded(content: bytes, block_bytes: int) -> bytes:
    """Takes the padding of PKCS #7 away from whole blocks. Raises NotOpened, and IndexError without content."""
    length = content[-1]
    if not 0 < length <= block_bytes or not content.endswith(PADDINGS[length]):
        raise NotOpened
    return content[:-length]


def cbc_of(key: bytes) -> Callable[[bytes, bytes], bytes]:
    """Returns the function that opens AES-CBC with the padding of PKCS #7: IV, ciphertext. It raises NotOpened.

    It authenticates nothing by itself.
    """
    opener = METHODS["aes-cbc"].opener(key)
    return lambda iv, ciphertext: unpadded(opener(iv, ciphertext, None), 16)


def cbc(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """Opens one value as cbc_of() does."""
    return cbc_of(key)(iv, ciphertext)
