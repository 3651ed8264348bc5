"""Object storage that speaks S3, on this machine: moto's server behind TLS, with a certificate of its own."""

import contextlib
import datetime
import ipaddress
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


def _certificate(folder: Path) -> tuple[str, str]:
    """Files of a certificate for localhost and of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(private)
    return str(folder / "certificate.pem"), str(folder / "key.pem")


@contextlib.contextmanager
def served(folder: Path, bucket: str) -> Iterator[None]:
    """An empty bucket, at an endpoint that the environment names; `folder` takes the certificate and the caches."""
    pytest.importorskip("moto.server", reason="needs moto with its server")
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    certificate, key = _certificate(folder)
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=(certificate, key))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = {"AWS_ENDPOINT_URL": f"https://localhost:{server.server_port}", "AWS_DEFAULT_REGION": "us-east-1"}
    variables |= {"AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "word"}
    variables |= {
        "AWS_CA_BUNDLE": certificate,
        "SSL_CERT_FILE": certificate,
        "LITDATA_CACHE_DIR": str(folder / "cache"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=bucket)
        yield
    server.shutdown()
