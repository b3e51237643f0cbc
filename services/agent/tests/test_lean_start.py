"""What stays out of the agent's process is imported when it is needed after all."""

import json
import subprocess
import sys

OUT = ("ast", "dis", "tokenize", "nats.js", "nats.js.api", "email", "pickle", "importlib.metadata")
PROGRAM = f"""
import json, sys
from warren_process.lean_start import lean_imports
with lean_imports():
    import warren_agent.main
loaded = [name for name in {OUT!r} if name in sys.modules]

import inspect, linecache, nats
status = nats.js.api.Header.STATUS
signature = str(inspect.signature(str.encode))
line = linecache.getline(warren_agent.main.__file__, 1)
import nats.js.errors
print(json.dumps({{
    "loaded": loaded, "status": status, "signature": signature, "line": line,
    "same": nats.js.api.Header.STATUS == status, "error": str(nats.js.errors.APIError(code=400)),
    "context": nats.js.JetStreamContext.__module__,
}}))
"""


def test_stand_ins_of_the_agent_are_replaced_by_what_they_stand_for() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["loaded"] == []
    assert (found["status"], found["same"], found["context"]) == ("Status", True, "nats.js.client")
    assert found["signature"] == "(self, /, encoding='utf-8', errors='strict')"
    assert found["line"].startswith('"""')
    assert "code=400" in found["error"]
