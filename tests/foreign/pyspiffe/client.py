"""Fetches from a Workload API socket by py-spiffe, tells of each update, and calls a server by mutual TLS."""

import queue
import sys

from cryptography import x509
from spiffe import SpiffeId, WorkloadApiClient, X509Source
from spiffetls import ClientTlsMode, dial

LIMIT = 60


def serial(svid):
    return format(svid.leaf.serial_number, "x")


def say(*words):
    print(*words, flush=True)


def main():
    address, peer = sys.argv[1], SpiffeId(sys.argv[2])

    def authorize(certificate):
        names = certificate.to_cryptography().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return names.value.get_values_for_type(x509.UniformResourceIdentifier) == [str(peer)]

    updates = queue.Queue()
    with X509Source(timeout_in_seconds=LIMIT) as source:
        svid = source.svid
        say("svid", svid.spiffe_id, serial(svid))
        bundle = source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        say("bundle", bundle.trust_domain, len(bundle.x509_authorities))
        with WorkloadApiClient() as client:
            say("one", serial(client.fetch_x509_svid()), len(client.fetch_x509_bundles().bundles))
        source.subscribe_for_updates(lambda: updates.put(serial(source.svid)))
        connection = dial(address, source, ClientTlsMode.TLS, authorize)
        connection.sendall(b"from py")
        say("answer", connection.recv(7).decode())
        connection.shutdown()
        connection.close()
        while (now := updates.get(timeout=LIMIT)) == serial(svid):
            pass
        say("rotated", now)
        # The new certificate opens the next connection.
        connection = dial(address, source, ClientTlsMode.TLS, authorize)
        connection.sendall(b"again..")
        say("again", connection.recv(7).decode())
        connection.close()


main()
