"""What scapy's ESP lacks, over python-cryptography: AES-GMAC (RFC 4543), AES-CCM with ICVs of 8 and 12 bytes (RFC 4309), AES-XCBC-MAC-96 (RFC 3566)."""
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from scapy.layers import ipsec


def aes(key: bytes, block: bytes) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b))


class Xcbc:
    """RFC 3566 4."""

    def __init__(self, key: bytes):
        self.k1, self.k2, self.k3 = (aes(key, bytes([i]) * 16) for i in (1, 2, 3))
        self.message = b""

    def update(self, data: bytes) -> None:
        self.message += data

    def finalize(self) -> bytes:
        last = (len(self.message) - 1) // 16 * 16 if self.message else 0
        chain = bytes(16)
        for at in range(0, last, 16):
            chain = aes(self.k1, xor(chain, self.message[at:at + 16]))
        tail = self.message[last:]
        tail = xor(tail, self.k2) if len(tail) == 16 else xor((tail + b"\x80").ljust(16, b"\0"), self.k3)
        return aes(self.k1, xor(chain, tail))


class XcbcAlgorithm(ipsec.AuthAlgo):
    def new_mac(self, key):
        return Xcbc(key)


class AeadAlgorithm(ipsec.CryptAlgo):
    """`seal(key, nonce, aad, iv, data)` gives text and ICV; `open` the text, or raises InvalidTag."""

    def __init__(self, name, icv_size, salt_size, seal, open):
        super().__init__(name, cipher=AESGCM, mode=None, block_size=1, iv_size=8, icv_size=icv_size, salt_size=salt_size,
                         key_size=(16, 24, 32), format_mode_iv=ipsec._salt_format_mode_iv)
        self.seal, self.open = seal, open

    def encrypt(self, sa, esp, key, icv_size=None, esn_en=False, esn=0):
        header = esp.spi.to_bytes(4, "big") + esp.seq.to_bytes(4, "big")
        sealed = self.seal(key, sa.crypt_salt + esp.iv, header, esp.iv, esp.data_for_encryption())
        return ipsec.ESP(spi=esp.spi, seq=esp.seq, data=esp.iv + sealed)

    def decrypt(self, sa, esp, key, icv_size=None, esn_en=False, esn=0):
        header = esp.spi.to_bytes(4, "big") + esp.seq.to_bytes(4, "big")
        iv, sealed = esp.data[:8], esp.data[8:]
        try:
            data = self.open(key, sa.crypt_salt + iv, header, iv, sealed)
        except InvalidTag as wrong:
            raise ipsec.IPSecIntegrityError(str(wrong)) from wrong
        padlen = data[-2]
        return ipsec._ESPPlain(spi=esp.spi, seq=esp.seq, iv=iv, data=data[:len(data) - padlen - 2],
                               padding=data[len(data) - padlen - 2:-2], padlen=padlen, nh=data[-1], icv=sealed[-self.icv_size:])


def gmac(key, nonce, aad, iv, data):
    return data + AESGCM(key).encrypt(nonce, b"", aad + iv + data)


def open_gmac(key, nonce, aad, iv, sealed):
    AESGCM(key).decrypt(nonce, sealed[-16:], aad + iv + sealed[:-16])
    return sealed[:-16]


def ccm(icv):
    return (lambda key, nonce, aad, iv, data: AESCCM(key, icv).encrypt(nonce, data, aad),
            lambda key, nonce, aad, iv, sealed: AESCCM(key, icv).decrypt(nonce, sealed, aad))


def register() -> None:
    ipsec.AUTH_ALGOS["AES-XCBC-96"] = XcbcAlgorithm("AES-XCBC-96", mac=Xcbc, digestmod=None, icv_size=12, key_size=(16,))
    ipsec.CRYPT_ALGOS["AES-GMAC"] = AeadAlgorithm("AES-GMAC", 16, 4, gmac, open_gmac)
    for icv in (8, 12):
        ipsec.CRYPT_ALGOS[f"AES-CCM-{icv}"] = AeadAlgorithm(f"AES-CCM-{icv}", icv, 3, *ccm(icv))
