"""What runs in a node: the services that Crossbar's router worker embeds, and the commands that start and check it."""
