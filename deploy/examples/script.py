"""A script on the bus: each verb waits for its outcome."""

import trishula

with trishula.connect() as bus:
    print(bus.call("agni", "add", 2, b=3))
    receipt = bus.send("agni", payload={"text": "from a script"})
    print(receipt.status)
