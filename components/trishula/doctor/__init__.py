"""``trishula doctor``: what is wrong, as policy: facts that were gathered go in, findings come out."""
