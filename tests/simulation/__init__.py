"""Deterministic simulation: Worlds, their threads and their clock under one seeded scheduler.

``loop`` schedules ``processes`` and their threads, ``clock`` is their time, ``stores`` gives them a
shared database, ``faulty`` injects faults, ``flow`` is what workers execute, ``clients`` what they
are asked for, ``plan`` draws all that from a seed. ``ledger`` and ``book`` watch, ``verdict``
judges, ``scene`` puts it together.
"""
