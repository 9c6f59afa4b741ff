"""The lab's own mirror: Kubernetes built from Go modules, packed and served like upstream.

For machines that reach package registries but neither the Kubernetes nor the Docker package
repository nor an image registry. ``build`` makes everything once per architecture into the
lab's cache, ``serve`` serves it. README.md in this folder says what is like upstream and what
is not.
"""
