"""A client's messages, acks and calls, on their way out and back: the outbox, the engine, the file that keeps them."""
