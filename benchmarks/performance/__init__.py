"""Measurements that accompany a release."""
