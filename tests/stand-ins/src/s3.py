"""A stand-in for S3: moto's server on a free port of loopback, one request at a time.

moto looks whether an object is there and then stores it, without holding anything in between, so that two who create one
object at once both succeed now and then. S3 does not do that, so the requests take turns here.
With the argument "careless" it does not know `If-None-Match`, as old and small stores do not: a second create succeeds.
"""

import logging
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

careless = "careless" in sys.argv
moto = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()


def application(environ, start_response):
    if careless:
        environ.pop("HTTP_IF_NONE_MATCH", None)
    with turn:
        return list(moto(environ, start_response))


logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, application, threaded=True)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
