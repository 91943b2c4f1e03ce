"""Examining shared files: models, methods and policy meet here, as they do in the guard.

``audit`` takes files or folders to findings; ``examiner`` holds one base and examines one file at
a time; ``rays`` spreads examiners over a cluster; ``results`` keeps what is done; ``report`` and
``exports`` write it down. The methods are in :mod:`tadasu.auditing`.
"""
