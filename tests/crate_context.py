"""Fill the HTTP cache of roc-validator with RO-Crate 1.1's JSON-LD context.

It comes from the rocrate release that ships it. Runs in the validator's own environment: `python
crate_context.py CACHE`.
"""

import importlib.util
import io
import sys
from pathlib import Path

from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from urllib3 import HTTPResponse

URL = "https://w3id.org/ro/crate/1.1/context"


class FromPackage(HTTPAdapter):
    def send(self, request, **options):
        file = Path(importlib.util.find_spec("rocrate").origin).parent / "data" / "ro-crate.jsonld"
        headers = {"Content-Type": "application/ld+json"}
        return self.build_response(request, HTTPResponse(io.BytesIO(file.read_bytes()), headers, 200,
                                                         preload_content=False))


session = CachedSession(sys.argv[1], backend="sqlite", expire_after=-1)
session.mount(URL, FromPackage())
session.get(URL).raise_for_status()
