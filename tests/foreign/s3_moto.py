"""moto's S3 server on a free port of loopback, until killed: s3_moto.py PORTFILE"""

import logging
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    portfile = Path(sys.argv[1])
    # moto answers requests signed by anybody, but its own boto3 looks for credentials when loaded.
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    from moto.server import ThreadedMotoServer

    # A line per request would bury what the tests say.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    stop = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    partial = portfile.with_name(portfile.name + ".partial")
    partial.write_text(f"http://{host}:{port}\n")
    partial.replace(portfile)
    signal.sigwait(stop)
    server.stop()


if __name__ == "__main__":
    main()
