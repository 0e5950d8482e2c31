"""What :mod:`tests.benchmarks.beside_peers` measures TRISHULA beside: servers, clients, and what is made of samples."""
