"""The two TLS contexts of a fleet: 1.3 only, only the fleet's root trusted (RFC 8446).

Standard library only, since the network process uses it too. The system's own list of
authorities is never loaded.
"""

from __future__ import annotations

import ssl

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, X509_VERIFY_PARAM_set_flags(3)


def server(cert: str, key: str, root: str) -> ssl.SSLContext:
    """For the endpoint; arguments are paths. A client certificate is required, no tickets.

    Raises OSError and ssl.SSLError for unreadable files.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, key)
    context.load_verify_locations(root)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.num_tickets = 0
    return context


def client(cert: str, key: str, root_pem: str, check_time: bool) -> ssl.SSLContext:
    """For a node that asks; ``cert`` and ``key`` are paths, ``root_pem`` is text.

    ``check_time`` False leaves out the validity window, for boards whose clock is not set yet;
    names, purposes and signatures are checked all the same. Raises OSError, ssl.SSLError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, key)
    context.load_verify_locations(cadata=root_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if not check_time:
        context.verify_flags |= NO_CHECK_TIME
    return context
