"""What a node answers over HTTP, at its web transport: ``/health``, ``/ready`` and their like.

Crossbar makes each resource by the name of its class, for a path of type ``resource``, and hands it the path's
``extra``; :data:`trishula_router.settings.crossbar_config.ENDPOINTS` has the paths that every node gets. A resource
finds the node of its process by :func:`.running.node`, and who asks by :mod:`.visitors`; :class:`.page.Page` is what
all resources have in common.
"""
