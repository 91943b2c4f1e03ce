"""Detectors: pictures or texts go in, scores come out.

Every method is one file of this folder; `tadasu.detectors.registry.names` lists them. Nothing
here imports a network library: a detector is handed the network it needs, by
`tadasu.backends.detectors.load` or by whoever builds it.
"""

from __future__ import annotations
