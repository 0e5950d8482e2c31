"""An agent of TRISHULA v1: it knows files, and nothing of a bus. It answers each message of its inbox.

``python v1_agent.py NAME FOLDER LOG``: of each file it appends the id to LOG, writes the answer, and removes the file.
It is written as such agents are: no module of ours, a loop, and a file that is renamed when it is whole.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Answer until somebody ends it."""
    name, folder, log = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    while True:
        for path in sorted(folder.joinpath("inbox").glob("[!.]*.json")):
            message = json.loads(path.read_text())
            with log.open("a") as file:
                file.write(message["id"] + "\n")
            answer = {
                "id": f"re_{message['id']}",
                "from": name,
                "to": message["from"],
                "type": "status",
                "priority": "normal",
                "subject": "answer",
                "body": message["body"],
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "reply_to": message["id"],
            }
            half = folder / "outbox" / f".{answer['id']}.tmp"
            half.write_text(json.dumps(answer))
            half.rename(folder / "outbox" / f"{answer['id']}.json")
            path.unlink()
        time.sleep(0.02)


if __name__ == "__main__":
    main()
