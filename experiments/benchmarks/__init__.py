"""Measurements that anyone can repeat: each command writes its table, and the machine it ran on."""
