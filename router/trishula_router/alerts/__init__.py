"""The notifier: what is wrong at a node, and who is told by webhook, chat or mail; for people without Prometheus."""
