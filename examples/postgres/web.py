# A web page over the bank's tables, with nothing but Python's own library and psql. It knows nothing of the mesh, nor
# of TLS: PGHOST names the database as anywhere.
import html
import http.server
import os
import socket
import subprocess

QUERY = """select (select count(*) from pgbench_history), (select coalesce(sum(delta), 0) from pgbench_history),
           (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches)"""
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<title>A bank behind Ferrule</title><style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem }}</style>
<h1>A bank behind Ferrule</h1>
<p>{transfers} transfers moved {moved}. The accounts hold {accounts}, the branches {branches}: {verdict}.</p>
</html>
"""


def page():
    asked = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--field-separator=|", "--command", QUERY, "postgres"]
    answer = subprocess.run(asked, capture_output=True, text=True, timeout=10)
    if answer.returncode != 0:
        return 502, f"<!doctype html><p>The bank does not answer: {html.escape(answer.stderr)}</p>\n"
    transfers, moved, accounts, branches = answer.stdout.strip().split("|")
    verdict = "the books balance" if moved == accounts == branches else "the books do not balance"
    shown = dict(transfers=transfers, moved=moved, accounts=accounts, branches=branches, verdict=verdict)
    return 200, PAGE.format(**{name: html.escape(value) for name, value in shown.items()})


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, text = page()
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    # Both families where there are two.
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self):
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return super().server_bind()


Server((os.environ.get("LISTEN", ""), 8000), Handler).serve_forever()
