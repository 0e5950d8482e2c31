"""The wire contract: messages and their payloads, addresses, deliveries, and the names of procedures and topics."""
