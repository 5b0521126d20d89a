"""Signs tokens for the gateway benchmark: a key, its JWKS, its public key in PEM, and N distinct tokens, one per line.

Usage: tokens.py FOLDER ALGORITHM COUNT. Claims as a platform caller's token has: three scopes, an issuer, an audience,
a day of life, an own jti each.
"""

import base64
import json
import multiprocessing
import pathlib
import sys
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

ISSUER = "https://issuer.example.com"
AUDIENCE = "https://api.example.com"
SCOPES = "analytics:reports:read user:read routing:queues:read"
CHUNK = 2000


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, length: int) -> str:
    return b64(value.to_bytes(length, "big"))


def jwk(key, algorithm: str) -> dict:
    public = key.public_key().public_numbers()
    about = {"kid": "bench", "use": "sig", "alg": algorithm}
    if algorithm == "RS256":
        return {"kty": "RSA", "n": number(public.n, 256), "e": number(public.e, 3), **about}
    return {"kty": "EC", "crv": "P-256", "x": number(public.x, 32), "y": number(public.y, 32), **about}


def sign(key, algorithm: str, message: bytes) -> bytes:
    if algorithm == "RS256":
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def chunk(work) -> str:
    pem, algorithm, first, count, now = work
    key = serialization.load_pem_private_key(pem, None)
    head = b64(json.dumps({"alg": algorithm, "typ": "at+jwt", "kid": "bench"}).encode())
    lines = []
    for index in range(first, first + count):
        subject = f"caller-{index % 1000:04d}"
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "client_id": subject, "scope": SCOPES,
                  "iat": now, "exp": now + 86400, "jti": f"00000000-0000-4000-8000-{index:012d}"}
        message = f"{head}.{b64(json.dumps(claims, separators=(',', ':')).encode())}"
        lines.append(f"{message}.{b64(sign(key, algorithm, message.encode()))}\n")
    return "".join(lines)


def main() -> None:
    folder, algorithm, count = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    key = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                            serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM,
                                           serialization.PublicFormat.SubjectPublicKeyInfo)
    name = algorithm.lower()
    (folder / f"{name}.pem").write_bytes(public)
    (folder / f"{name}.jwks.json").write_text(json.dumps({"keys": [jwk(key, algorithm)]}))
    now = int(time.time())
    work = [(pem, algorithm, first, min(CHUNK, count - first), now) for first in range(0, count, CHUNK)]
    with multiprocessing.Pool() as pool, open(folder / f"{name}.tokens", "w") as out:
        for lines in pool.imap(chunk, work):
            out.write(lines)


main()
