"""Ansible's hands on the simulated fleet: `deploy` boots the new version and waits, `check` asks for errors under load."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Runs in the worker, with no module to copy: the comparison is about waves, not about forks."""

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments, host = self._task.args, task_vars["inventory_hostname"]
        base = f"http://127.0.0.1:{arguments['port']}"
        if arguments["verb"] == "check":
            found = self._ask(f"{base}/errors", json.dumps([host]).encode())[host]
            return {**result, "failed": found is None or found > 0, "msg": f"errors: {found}"}
        job = f"{arguments['version']} on {host}"
        query = urllib.parse.urlencode({"host": host, "version": arguments["version"], "job": job})
        self._ask(f"{base}/begin?{query}", b"")
        silent_until = time.monotonic() + float(arguments["patience_s"])
        while True:
            found = self._ask(f"{base}/status?{urllib.parse.urlencode({'host': host})}")
            if found["answers"] and found["job"] == job:
                return {**result, "changed": True, "failed": bool(found["fell_back"]), "msg": found["fell_back"]}
            if not found["answers"] and time.monotonic() > silent_until:
                return {**result, "unreachable": True, "msg": "it does not answer"}
            time.sleep(0.1)

    def _ask(self, url, body=None):
        while True:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 429:
                    raise
                time.sleep(0.2)
