"""Landmark layouts: names, groups, mirror pairs, edges."""
