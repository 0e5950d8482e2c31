"""What goes out and what comes back: the outbox and its sends, acknowledgements and calls, and the file that keeps
them."""
