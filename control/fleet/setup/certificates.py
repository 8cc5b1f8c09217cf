"""An authority for one fleet's engine, and the certificates of its nodes: X.509 with ECDSA P-256, as PEM."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

EARLIER: Final = timedelta(days=1)  # for a machine whose clock is behind
VALID: Final = timedelta(days=3650)


class Authority(NamedTuple):
    key: ec.EllipticCurvePrivateKey
    cert: x509.Certificate


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> str:
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


def pem_of(cert: x509.Certificate) -> str:
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def new_authority(name: str, now: datetime, valid: timedelta = VALID) -> Authority:
    """It signs nodes of one fleet, and no other authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _begun(_name(name), _name(name), key, now, valid)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Authority(key, builder.sign(key, hashes.SHA256()))


def new_certificate(authority: Authority, host: str, now: datetime, valid: timedelta = VALID) -> tuple[str, str]:
    """(certificate, key) of a node of that name or address, which is a server to some and a client to others."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _begun(_name(host), authority.cert.subject, key, now, valid)
    alternative = x509.SubjectAlternativeName([_general(host)])
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    for extension, critical in (
        (alternative, False), (both, False), (signer, False), (_usage(signs_certificates=False), True),
        (x509.BasicConstraints(ca=False, path_length=None), True),
    ):  # fmt: skip
        builder = builder.add_extension(extension, critical=critical)
    return pem_of(builder.sign(authority.key, hashes.SHA256())), pem_of_key(key)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, valid: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - EARLIER).not_valid_after(now + valid)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )  # fmt: skip


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
