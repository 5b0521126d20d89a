"""Calls through the official Genesys Cloud Python SDK, unmodified, until its standard input ends.

Environment: KH_URL, KH_CLIENT_ID, KH_CLIENT_SECRET as for the other SDK programs; KH_RATE, calls per second over all
threads. Prints `started` once calls are being answered, and at the end one line of JSON: calls, seconds, failures,
examples. A call is never repeated here: every exception counts.
"""

import json
import os
import sys
import threading
import time

import PureCloudPlatformClientV2 as pc

THREADS = 4
FIRST = 10
pause = THREADS / float(os.environ["KH_RATE"])
stop = threading.Event()
lock = threading.Lock()
calls, failures = 0, []

pc.configuration.host = os.environ["KH_URL"]
login = pc.api_client.ApiClient().get_client_credentials_token(
    os.environ["KH_CLIENT_ID"], os.environ["KH_CLIENT_SECRET"]
)


def work(number):
    global calls
    client = pc.api_client.ApiClient()
    client.access_token = login.access_token
    users = pc.UsersApi(client)
    due = time.monotonic() + pause * number / THREADS
    while not stop.is_set():
        failure = None
        try:
            assert users.get_users(page_size=1).entities is not None
        except Exception as error:  # whatever it is, the application's call did not work
            failure = f"{type(error).__name__} {getattr(error, 'status', '')}: {str(error)[:300]}"
        with lock:
            calls += 1
            if failure:
                failures.append(failure)
            if calls == FIRST:
                print("started", flush=True)
        # one that is late does not hurry to catch up: the rate is the most, not a promise
        due = max(due + pause, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


began = time.monotonic()
threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
sys.stdin.read()
stop.set()
for thread in threads:
    thread.join()
told = {"calls": calls, "seconds": time.monotonic() - began, "failures": len(failures)}
print(json.dumps(told | {"examples": failures[:3]}), flush=True)
